// What the pipeline needs of a model; implemented by LiteModel, and by a stand-in in the tests.
#ifndef ASCEND310_INFER_INC_PREDICTOR_H_
#define ASCEND310_INFER_INC_PREDICTOR_H_

#include <cstddef>
#include <string_view>
#include <vector>

namespace infer {

struct InputSpec {
  std::size_t batch = 0;
  int image_size = 0;
  bool is_bytes = false;  // uint8 [N, H, W, 3], normalised inside the graph; otherwise float32 [N, 3, H, W], normalised

  [[nodiscard]] std::size_t RowBytes() const {
    const auto side = static_cast<std::size_t>(image_size);
    return side * side * 3 * (is_bytes ? 1 : sizeof(float));
  }
};

class Predictor {
 public:
  Predictor() = default;
  virtual ~Predictor() = default;
  Predictor(const Predictor&) = delete;
  Predictor& operator=(const Predictor&) = delete;

  [[nodiscard]] virtual const InputSpec& Input() const = 0;

  // Runs the model on one full batch. The views, one per output and each holding `batch` rows of equal
  // length, stay valid until the next call. Throws Failure.
  virtual std::vector<std::string_view> Predict(std::string_view batch) = 0;
};

}  // namespace infer

#endif  // ASCEND310_INFER_INC_PREDICTOR_H_
