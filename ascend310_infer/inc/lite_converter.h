// The converter that the mindspore-lite wheel 2.0 exports from libmindspore_converter.so without a header.
#ifndef ASCEND310_INFER_INC_LITE_CONVERTER_H_
#define ASCEND310_INFER_INC_LITE_CONVERTER_H_

#include <memory>
#include <vector>

#include <include/api/status.h>
#include <include/api/types.h>
#include <include/registry/converter_context.h>

namespace mindspore {

struct ConverterPara;

// Its one member is all that another program's code has to know of its size.
class Converter {
 public:
  Converter();
  ~Converter() = default;
  Converter(const Converter&) = delete;
  Converter& operator=(const Converter&) = delete;

  void SetSaveType(ModelType type);
  void SetConfigFile(const std::vector<char>& path);
  Status Convert(converter::FmkType framework, const std::vector<char>& model_file,
                 const std::vector<char>& output_file, const std::vector<char>& weight_file);

 private:
  std::shared_ptr<ConverterPara> data_;
};

}  // namespace mindspore

#endif  // ASCEND310_INFER_INC_LITE_CONVERTER_H_
