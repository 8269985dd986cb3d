// From a decoded image to one row of the network's input.
#ifndef ASCEND310_INFER_INC_PREPROCESS_H_
#define ASCEND310_INFER_INC_PREPROCESS_H_

#include <cstddef>
#include <vector>

#include "inc/image.h"
#include "inc/manifest.h"

namespace infer {

// The size of `image` resized so that its short side has `preprocessing.resize` pixels, and the central crop
// of it, each rounded as the Python pipeline with the same kernel rounds.
struct Geometry {
  int width = 0;
  int height = 0;
  Window crop;
};
Geometry EvalGeometry(int width, int height, const Preprocessing& preprocessing);

// Short side resized, centre cropped: image_size x image_size.
Image ResizeAndCrop(const Image& image, const Preprocessing& preprocessing);

// (pixel / 255 - mean) / std, channels first: 3 x height x width values written to `out`.
void NormalizeToChw(const Image& image, const Preprocessing& preprocessing, float* out);

}  // namespace infer

#endif  // ASCEND310_INFER_INC_PREPROCESS_H_
