// Writes the evaluation pixels of images, so that a test can hold them against the Python pipeline's:
//   preprocess_dump OUT IMAGE_SIZE RESIZE bilinear|bicubic mindspore|pil IMAGE...
// OUT gets, for each image, image_size x image_size x 3 bytes.

#include <cstddef>
#include <iostream>
#include <string>
#include <vector>

#include "inc/files.h"
#include "inc/image.h"
#include "inc/preprocess.h"

constexpr std::size_t kLimit = 1U << 24U;  // bytes of a file, and pixels of an image

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() < 6) {
    std::cerr << "usage: preprocess_dump OUT IMAGE_SIZE RESIZE INTERPOLATION KERNEL IMAGE...\n";
    return 2;
  }
  try {
    infer::Preprocessing preprocessing;
    preprocessing.image_size = std::stoi(arguments[1]);
    preprocessing.resize = std::stoi(arguments[2]);
    preprocessing.interpolation =
        arguments[3] == "bicubic" ? infer::Interpolation::kBicubic : infer::Interpolation::kBilinear;
    preprocessing.kernel = arguments[4] == "pil" ? infer::ResizeKernel::kPil : infer::ResizeKernel::kMindSpore;
    std::string all;
    for (std::size_t i = 5; i < arguments.size(); ++i) {
      const infer::Image image = infer::Decode(infer::ReadFile(arguments[i], kLimit), kLimit);
      const infer::Image cropped = infer::ResizeAndCrop(image, preprocessing);
      all.append(cropped.pixels.begin(), cropped.pixels.end());
    }
    infer::WriteFile(arguments[0], all);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
