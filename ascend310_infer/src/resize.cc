#include "inc/resize.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace infer {
namespace {

constexpr int kChannels = 3;

// The source pixels that make up one pixel of the result along one axis, and their weights.
struct Taps {
  int first = 0;  // may lie outside the source for OpenCV's kernels, which repeat the border
  std::vector<int> weights;
};

const std::uint8_t* Pixel(const Image& image, int x, int y) {
  return image.Row(y) + static_cast<std::ptrdiff_t>(x) * kChannels;
}

std::uint8_t Clip8(int value) { return static_cast<std::uint8_t>(std::clamp(value, 0, 255)); }

// ---- OpenCV: weights of 11 fractional bits, rows kept as 32-bit integers between the two passes ----

constexpr int kCvBits = 11;

// Weights of one output pixel. OpenCV computes the position in double and goes on in float; so is it here.
Taps CvTaps(int at, double scale, Interpolation interpolation) {
  const auto position = static_cast<float>((at + 0.5) * scale - 0.5);
  const int floor = static_cast<int>(std::floor(position));
  const float x = position - static_cast<float>(floor);
  std::vector<float> weights;
  int first = floor;
  if (interpolation == Interpolation::kBilinear) {
    weights = {1.F - x, x};
  } else {
    constexpr float kA = -0.75F;  // Keys' parameter in OpenCV
    first = floor - 1;
    weights = {((kA * (x + 1) - 5 * kA) * (x + 1) + 8 * kA) * (x + 1) - 4 * kA, ((kA + 2) * x - (kA + 3)) * x * x + 1,
               ((kA + 2) * (1 - x) - (kA + 3)) * (1 - x) * (1 - x) + 1};
    weights.push_back(1.F - weights[0] - weights[1] - weights[2]);
  }
  Taps taps{first, {}};
  for (const float weight : weights) taps.weights.push_back(static_cast<int>(std::lrintf(weight * (1 << kCvBits))));
  return taps;
}

// One row of the source, resized along x.
void CvRow(const std::uint8_t* source, int source_width, const std::vector<Taps>& columns, int* out) {
  for (const Taps& taps : columns) {
    for (int c = 0; c < kChannels; ++c) {
      int sum = 0;
      for (std::size_t k = 0; k < taps.weights.size(); ++k) {
        const int x = std::clamp(taps.first + static_cast<int>(k), 0, source_width - 1);
        sum += source[x * kChannels + c] * taps.weights[k];
      }
      *out++ = sum;
    }
  }
}

Image CvResize(const Image& image, int width, int height, const Window& window, Interpolation interpolation) {
  // OpenCV first forms the factor of enlargement and inverts it: one rounding more than a plain quotient.
  const double scale_x = 1.0 / (static_cast<double>(width) / image.width);
  const double scale_y = 1.0 / (static_cast<double>(height) / image.height);
  std::vector<Taps> columns;
  for (int x = 0; x < window.width; ++x) {
    columns.push_back(CvTaps(window.left + x, scale_x, interpolation));
    if (interpolation == Interpolation::kBilinear) {  // at the border OpenCV's x weights are 1 and 0
      Taps& taps = columns.back();
      if (taps.first < 0 || taps.first >= image.width - 1)
        taps = {std::clamp(taps.first, 0, image.width - 1), {1 << kCvBits, 0}};
    }
  }
  const std::size_t row_values = columns.size() * kChannels;
  const std::size_t taps_count = interpolation == Interpolation::kBilinear ? 2 : 4;
  std::vector<std::vector<int>> rows(taps_count, std::vector<int>(row_values));
  std::vector<int> row_of(taps_count, -1);  // which source row each buffer holds

  Image out{window.width, window.height, {}};
  out.pixels.reserve(row_values * static_cast<std::size_t>(window.height));
  for (int y = 0; y < window.height; ++y) {
    const Taps taps = CvTaps(window.top + y, scale_y, interpolation);
    std::vector<const int*> sources(taps_count);
    for (std::size_t k = 0; k < taps_count; ++k) {
      const int wanted = std::clamp(taps.first + static_cast<int>(k), 0, image.height - 1);
      const std::size_t slot = static_cast<std::size_t>(wanted) % taps_count;
      if (row_of[slot] != wanted) {
        CvRow(image.Row(wanted), image.width, columns, rows[slot].data());
        row_of[slot] = wanted;
      }
      sources[k] = rows[slot].data();
    }
    for (std::size_t i = 0; i < row_values; ++i) {
      if (interpolation == Interpolation::kBilinear) {
        const int sum =
            ((taps.weights[0] * (sources[0][i] >> 4)) >> 16) + ((taps.weights[1] * (sources[1][i] >> 4)) >> 16);
        out.pixels.push_back(Clip8((sum + 2) >> 2));
      } else {
        // OpenCV's vector code sums this pass in float, scaled by 2^-22.
        constexpr float kScale = 1.F / (1 << (2 * kCvBits));
        float sum = 0;
        for (std::size_t k = taps_count; k-- > 0;)
          sum += static_cast<float>(sources[k][i]) * (static_cast<float>(taps.weights[k]) * kScale);
        out.pixels.push_back(Clip8(static_cast<int>(std::lrintf(sum))));
      }
    }
  }
  return out;
}

// Exactly halved on both axes, OpenCV takes the mean of 2 x 2 pixels for bilinear.
Image CvHalve(const Image& image, const Window& window) {
  Image out{window.width, window.height, {}};
  for (int y = window.top; y < window.top + window.height; ++y) {
    const std::uint8_t* upper = image.Row(2 * y);
    const std::uint8_t* lower = image.Row(2 * y + 1);
    for (int i = 2 * window.left * kChannels; i < 2 * (window.left + window.width) * kChannels; i += 2 * kChannels)
      for (int c = i; c < i + kChannels; ++c)
        out.pixels.push_back(Clip8((upper[c] + upper[c + kChannels] + lower[c] + lower[c + kChannels] + 2) >> 2));
  }
  return out;
}

// ---- Pillow: weights of 22 fractional bits over a support that grows as sizes shrink, 8 bits between the passes ----

constexpr int kPilBits = 32 - 8 - 2;

double PilFilter(double x, Interpolation interpolation) {
  x = std::fabs(x);
  if (interpolation == Interpolation::kBilinear) return x < 1 ? 1 - x : 0;
  constexpr double kA = -0.5;  // Keys' parameter in Pillow
  if (x < 1) return ((kA + 2) * x - (kA + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * kA : 0;
}

// Pillow's rounding: half up for what is not negative, towards zero below.
int HalfUp(double x) {
  return static_cast<int>(x + 0.5);  // NOLINT(bugprone-incorrect-roundings): as Pillow computes
}

std::vector<Taps> PilTaps(int source, int target, int begin, int count, Interpolation interpolation) {
  const double scale = static_cast<double>(source) / target;
  const double filter_scale = std::max(scale, 1.0);
  const double support = (interpolation == Interpolation::kBilinear ? 1.0 : 2.0) * filter_scale;
  const double inverse = 1.0 / filter_scale;
  std::vector<Taps> all;
  for (int at = begin; at < begin + count; ++at) {
    const double center = (at + 0.5) * scale;
    const int first = std::max(0, HalfUp(center - support));
    const int last = std::min(source, HalfUp(center + support));
    std::vector<double> weights;
    double total = 0;
    for (int x = first; x < last; ++x) {
      weights.push_back(PilFilter((x - center + 0.5) * inverse, interpolation));
      total += weights.back();
    }
    Taps taps{first, {}};
    for (const double weight : weights)
      taps.weights.push_back(static_cast<int>(std::lround(weight * (total == 0 ? 1 : 1 / total) * (1 << kPilBits))));
    all.push_back(std::move(taps));
  }
  return all;
}

// Sum of weights times bytes that lie `step` apart, rounded.
std::uint8_t PilSum(const std::uint8_t* source, std::size_t step, const std::vector<int>& weights) {
  int sum = 1 << (kPilBits - 1);
  for (std::size_t k = 0; k < weights.size(); ++k) sum += source[k * step] * weights[k];
  return Clip8(sum >> kPilBits);
}

// Along x, then along y, as Pillow up to 12 always does; the first pass rounds to 8 bits, so the order shows.
// (Pillow 13.0 goes along y first where that shrinks a tall image faster: measured up to 1 level apart, bicubic 5.)
Image PilResize(const Image& image, int width, int height, const Window& window, Interpolation interpolation) {
  const std::vector<Taps> columns = PilTaps(image.width, width, window.left, window.width, interpolation);
  const std::vector<Taps> rows = PilTaps(image.height, height, window.top, window.height, interpolation);
  const int top = rows.front().first;
  const int bottom = rows.back().first + static_cast<int>(rows.back().weights.size());

  Image narrowed{window.width, bottom - top, {}};
  const std::size_t stride = static_cast<std::size_t>(window.width) * kChannels;
  narrowed.pixels.reserve(stride * static_cast<std::size_t>(bottom - top));
  for (int y = top; y < bottom; ++y) {
    for (const Taps& taps : columns)
      for (int c = 0; c < kChannels; ++c)
        narrowed.pixels.push_back(PilSum(Pixel(image, taps.first, y) + c, kChannels, taps.weights));
  }
  Image out{window.width, window.height, {}};
  out.pixels.reserve(stride * static_cast<std::size_t>(window.height));
  for (const Taps& taps : rows)
    for (std::size_t i = 0; i < stride; ++i)
      out.pixels.push_back(PilSum(narrowed.Row(taps.first - top) + i, stride, taps.weights));
  return out;
}

Image Cut(const Image& image, const Window& window) {
  Image out{window.width, window.height, {}};
  for (int y = window.top; y < window.top + window.height; ++y)
    out.pixels.insert(out.pixels.end(), Pixel(image, window.left, y), Pixel(image, window.left + window.width, y));
  return out;
}

}  // namespace

Image ResizeWindow(const Image& image, int width, int height, const Window& window, Interpolation interpolation,
                   ResizeKernel kernel) {
  if (image.width == width && image.height == height) return Cut(image, window);
  if (kernel == ResizeKernel::kPil) return PilResize(image, width, height, window, interpolation);
  if (interpolation == Interpolation::kBilinear && image.width == 2 * width && image.height == 2 * height)
    return CvHalve(image, window);
  return CvResize(image, width, height, window, interpolation);
}

}  // namespace infer
