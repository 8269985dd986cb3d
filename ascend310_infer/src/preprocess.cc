#include "inc/preprocess.h"

#include <algorithm>
#include <cmath>

namespace infer {

Geometry EvalGeometry(int width, int height, const Preprocessing& preprocessing) {
  const int resize = preprocessing.resize;
  const int size = preprocessing.image_size;
  const int short_side = std::min(width, height);
  Geometry geometry;
  const auto scaled = [&](int side) {
    if (side == short_side) return resize;
    if (preprocessing.kernel == ResizeKernel::kPil)
      return static_cast<int>(static_cast<double>(static_cast<long long>(resize) * side) / short_side);
    // MindSpore computes in single precision, in this order.
    const float ratio = static_cast<float>(side) / static_cast<float>(short_side);
    return static_cast<int>(std::floor(ratio * static_cast<float>(resize)));
  };
  geometry.width = scaled(width);
  geometry.height = scaled(height);
  const auto start = [&](int side) {
    if (preprocessing.kernel == ResizeKernel::kPil)
      return static_cast<int>(std::nearbyint((side - size) / 2.0));  // half to even, as Python's round
    return (side - size) / 2;
  };
  geometry.crop = {start(geometry.width), start(geometry.height), size, size};
  return geometry;
}

Image ResizeAndCrop(const Image& image, const Preprocessing& preprocessing) {
  const Geometry geometry = EvalGeometry(image.width, image.height, preprocessing);
  return ResizeWindow(image, geometry.width, geometry.height, geometry.crop, preprocessing.interpolation,
                      preprocessing.kernel);
}

void NormalizeToChw(const Image& image, const Preprocessing& preprocessing, float* out) {
  const std::size_t count = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height);
  for (std::size_t c = 0; c < 3; ++c) {
    const auto mean = static_cast<float>(preprocessing.mean[c] * 255);
    const auto std = static_cast<float>(preprocessing.std[c] * 255);
    for (std::size_t i = 0; i < count; ++i) *out++ = (static_cast<float>(image.pixels[3 * i + c]) - mean) / std;
  }
}

}  // namespace infer
