#include "inc/resize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "inc/preprocess.h"
#include "tests/support.h"

namespace infer {
namespace {

using testing::Gradient;

constexpr std::array kInterpolations = {Interpolation::kBilinear, Interpolation::kBicubic};
constexpr std::array kKernels = {ResizeKernel::kMindSpore, ResizeKernel::kPil};

// One row of gray values.
Image Row(const std::vector<int>& values) {
  Image image{static_cast<int>(values.size()), 1, {}};
  for (const int value : values) image.pixels.insert(image.pixels.end(), 3, static_cast<std::uint8_t>(value));
  return image;
}

std::vector<int> Reds(const Image& image) {
  std::vector<int> values;
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) values.push_back(image.pixels[i]);
  return values;
}

Image Whole(const Image& image, int width, int height, Interpolation interpolation, ResizeKernel kernel) {
  return ResizeWindow(image, width, height, {0, 0, width, height}, interpolation, kernel);
}

TEST(Resize, ReducingSkipsPixelsWithOpenCvAndAveragesThemWithPillow) {
  const Image image = Row({0, 0, 0, 240, 0, 0, 0, 0, 0, 240, 0, 0});
  // Reduced to a third, OpenCV takes the pixel in the middle of each three and nothing else.
  EXPECT_EQ(Reds(Whole(image, 4, 1, Interpolation::kBilinear, ResizeKernel::kMindSpore)),
            (std::vector<int>{0, 0, 0, 0}));
  // Pillow: a triangle over five pixels, weights 1 2 3 2 1 of 9; 240 * 1/9 and 2/9.
  EXPECT_EQ(Reds(Whole(image, 4, 1, Interpolation::kBilinear, ResizeKernel::kPil)), (std::vector<int>{30, 53, 27, 60}));
}

TEST(Resize, HalvingWithOpenCvIsTheMeanOfFour) {
  const Image image{2, 2, {0, 0, 0, 10, 10, 10, 20, 20, 20, 31, 31, 31}};
  EXPECT_EQ(Whole(image, 1, 1, Interpolation::kBilinear, ResizeKernel::kMindSpore).pixels,
            (std::vector<std::uint8_t>{15, 15, 15}));
}

TEST(Resize, EnlargingInterpolatesAndRepeatsTheBorder) {
  EXPECT_EQ(Reds(Whole(Row({0, 100}), 4, 1, Interpolation::kBilinear, ResizeKernel::kMindSpore)),
            (std::vector<int>{0, 25, 75, 100}));
  EXPECT_EQ(Reds(Whole(Row({0, 100}), 4, 1, Interpolation::kBilinear, ResizeKernel::kPil)),
            (std::vector<int>{0, 25, 75, 100}));
}

TEST(Resize, AFlatImageStaysFlat) {
  const Image image{9, 5, std::vector<std::uint8_t>(135, 77)};
  for (const Interpolation interpolation : kInterpolations) {
    for (const ResizeKernel kernel : kKernels)
      for (const std::uint8_t value : Whole(image, 4, 11, interpolation, kernel).pixels) EXPECT_EQ(value, 77);
  }
}

TEST(Resize, AWindowShowsWhatTheWholeImageHasThere) {
  for (const auto& [width, height] : {std::pair{37, 21}, {10, 90}, {90, 10}, {8, 6}, {1, 1}, {1, 50}}) {
    const Image image = Gradient(width, height);
    for (const Interpolation interpolation : kInterpolations) {
      for (const ResizeKernel kernel : kKernels) {
        const Image whole = Whole(image, 13, 12, interpolation, kernel);
        const Image part = ResizeWindow(image, 13, 12, {3, 4, 5, 6}, interpolation, kernel);
        for (int y = 0; y < 6; ++y) EXPECT_TRUE(std::equal(part.Row(y), part.Row(y) + 15, whole.Row(y + 4) + 9));
      }
    }
  }
}

TEST(Resize, TheSameSizeIsTheSameImage) {
  const Image image = Gradient(7, 9);
  for (const Interpolation interpolation : kInterpolations)
    for (const ResizeKernel kernel : kKernels)
      EXPECT_EQ(Whole(image, 7, 9, interpolation, kernel).pixels, image.pixels);
}

TEST(EvalGeometry, ResizesTheShortSideAndRoundsAsEachPipelineDoes) {
  Preprocessing preprocessing;
  preprocessing.image_size = 224;
  preprocessing.resize = 256;
  const Geometry wide = EvalGeometry(500, 375, preprocessing);
  EXPECT_EQ(wide.width, 341);
  EXPECT_EQ(wide.height, 256);
  EXPECT_EQ(wide.crop.left, 58);  // floor of 58.5
  EXPECT_EQ(wide.crop.top, 16);
  preprocessing.kernel = ResizeKernel::kPil;
  EXPECT_EQ(EvalGeometry(500, 375, preprocessing).crop.left, 58);  // 58.5 to even
  EXPECT_EQ(EvalGeometry(375, 502, preprocessing).height, 342);
  EXPECT_EQ(EvalGeometry(375, 502, preprocessing).crop.top, 59);
}

TEST(ResizeAndCrop, CostsNoMoreForExtremeProportions) {
  const Image strip = Gradient(60000, 1);  // resized whole it would have 256 * 15,360,000 pixels
  for (const ResizeKernel kernel : kKernels) {
    Preprocessing preprocessing;
    preprocessing.kernel = kernel;
    const Image cropped = ResizeAndCrop(strip, preprocessing);
    EXPECT_EQ(cropped.width, 224);
    EXPECT_EQ(cropped.height, 224);
  }
}

TEST(NormalizeToChw, PutsChannelsFirst) {
  const Image image{2, 1, {0, 51, 102, 255, 204, 153}};
  Preprocessing preprocessing;
  preprocessing.mean = {0.5, 0.0, 0.2};
  preprocessing.std = {0.5, 1.0, 0.1};
  std::vector<float> values(6);
  NormalizeToChw(image, preprocessing, values.data());
  const std::vector<float> expected = {-1, 1, 0.2F, 0.8F, 2, 4};
  for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(values[i], expected[i], 1e-6);
}

}  // namespace
}  // namespace infer
