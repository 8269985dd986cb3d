// A MindIR model run by MindSpore Lite.
#ifndef ASCEND310_INFER_INC_LITE_MODEL_H_
#define ASCEND310_INFER_INC_LITE_MODEL_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "inc/options.h"
#include "inc/predictor.h"

namespace infer {

class LiteModel : public Predictor {
 public:
  // Builds the model from its bytes for options.device. Throws Failure when Lite cannot, UsageError when its
  // input is no batch of images or the batch size does not fit.
  LiteModel(std::string_view mindir, const Options& options);
  ~LiteModel() override;

  [[nodiscard]] const InputSpec& Input() const override { return input_; }
  std::vector<std::string_view> Predict(std::string_view batch) override;

  // Of the library that is loaded, such as "2.0.0"; empty where it does not say (the 2.0.0 wheel).
  static std::string LiteVersion();

 private:
  struct Runtime;
  std::unique_ptr<Runtime> runtime_;
  InputSpec input_;
};

}  // namespace infer

#endif  // ASCEND310_INFER_INC_LITE_MODEL_H_
