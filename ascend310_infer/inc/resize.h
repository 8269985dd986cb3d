// Resizing as the Python pipeline does it in evaluation, pixel for pixel.
#ifndef ASCEND310_INFER_INC_RESIZE_H_
#define ASCEND310_INFER_INC_RESIZE_H_

#include "inc/image.h"

namespace infer {

enum class Interpolation { kBilinear, kBicubic };

enum class ResizeKernel {
  kMindSpore,  // OpenCV's: the 2 (4) nearest source pixels, no antialiasing
  kPil,        // Pillow's: the support grows with the reduction
};

// A rectangle of the resized image, in its pixels.
struct Window {
  int left = 0;
  int top = 0;
  int width = 0;
  int height = 0;
};

// The pixels that `window` shows of `image` resized to width x height; only these are computed, so an image
// of extreme proportions costs no more than another. The window must lie inside.
Image ResizeWindow(const Image& image, int width, int height, const Window& window, Interpolation interpolation,
                   ResizeKernel kernel);

}  // namespace infer

#endif  // ASCEND310_INFER_INC_RESIZE_H_
