// Batch normalisation around a convolution: statistics from its epilogue, its rule, and the way back.
#pragma once

#include <cmath>

#include "rule.h"

namespace cpu {

// Per-thread sums over the raw output, relative to a shift near the mean so that nothing cancels: the first output
// the thread computes. Float sums over a tile, double totals, threads merged in order (Chan et al. 1979).
struct Moments {
  Index channels;  // padded to whole vectors
  float *shift, *sum, *square;
  double *total, *total_square;
  Index count;

  static constexpr Index bytes_per_channel = 3 * sizeof(float) + 2 * sizeof(double);

  Moments(char* memory, Index padded)
      : channels(padded), shift(reinterpret_cast<float*>(memory + 2 * padded * sizeof(double))), sum(shift + padded),
        square(sum + padded), total(reinterpret_cast<double*>(memory)), total_square(total + padded), count(0) {}
  void clear() {
    std::memset(total, 0, channels * bytes_per_channel);
    count = 0;
  }
  INLINE void add(Index c, Vec s, Vec q) {
    add_to(sum + c, s);
    add_to(square + c, q);
  }
  void finish_tile() {
    flush(sum, total, channels);
    flush(square, total_square, channels);
  }
};

// Settings of one normalisation as the operators receive them: [epsilon, share of the old statistic kept, code].
struct NormSettings {
  float epsilon, keep, code;
  explicit NormSettings(const float* p) : epsilon(p[0]), keep(p[1]), code(p[2]) {}
};

struct NormForward {
  const float *gamma, *beta, *moving_mean, *moving_variance;
  NormSettings settings;
  float* rule;   // [3, C]
  float* saved;  // [2, C]: mean, 1 / sqrt(variance + epsilon)
  float *new_mean, *new_variance;

  // Channel c from the sums of all threads; `at` is its place in their padded layout.
  void channel(Index c, Index channels, const Moments* parts, Index n_parts, Index at) const {
    double count = 0, mean = 0, squares = 0;
    for (Index t = 0; t < n_parts; ++t) {
      const double n = static_cast<double>(parts[t].count);
      if (n == 0) continue;
      const double offset = parts[t].total[at] / n;
      const double part_mean = parts[t].shift[at] + offset;
      const double part_squares = parts[t].total_square[at] - parts[t].total[at] * offset;
      const double delta = part_mean - mean;
      squares += part_squares + delta * delta * count * n / (count + n);
      mean += delta * n / (count + n);
      count += n;
    }
    const double variance = squares > 0 || squares != squares ? squares / count : 0.0;
    const double inverse = 1.0 / std::sqrt(variance + settings.epsilon);
    const double scale = gamma[c] * inverse;
    rule[c] = static_cast<float>(scale);
    rule[channels + c] = static_cast<float>(beta[c] - mean * scale);
    rule[2 * channels + c] = settings.code;
    saved[c] = static_cast<float>(mean);
    saved[channels + c] = static_cast<float>(inverse);
    const double unbiased = count > 1 ? variance * count / (count - 1) : variance;
    new_mean[c] = static_cast<float>(settings.keep * moving_mean[c] + (1.0 - settings.keep) * mean);
    new_variance[c] = static_cast<float>(settings.keep * moving_variance[c] + (1.0 - settings.keep) * unbiased);
  }
};

// Scale and shift of a normalisation that uses its moving statistics.
struct NormInference {
  const float *gamma, *beta, *mean, *variance;
  NormSettings settings;
  void channel(Index c, float* scale, float* shift) const {
    const double s = gamma[c] / std::sqrt(static_cast<double>(variance[c]) + settings.epsilon);
    *scale = static_cast<float>(s);
    *shift = static_cast<float>(beta[c] - mean[c] * s);
  }
};

// Activation as the last step of an inference operator: bounds, but for hard-swish, which is its own template.
struct Finish {
  Vec low, high;
  explicit Finish(int code)
      : low(splat(code == RELU || code == RELU6 ? 0.f : -INFINITY)), high(splat(code == RELU6 ? 6.f : INFINITY)) {}
  template <bool SWISH>
  INLINE Vec apply(Vec z) const {
    return SWISH ? activate<HSWISH>(z) : at_most(at_least(z, low), high);
  }
};

// The gradient that reaches the raw output: dy + constant + slope * (y - mean), where the last two terms carry the
// gradient of the rule (scale, shift) back through mean and variance of `count` values.
struct NormBackward {
  const float *mean, *constant, *slope;

  // `out` holds 2 * channels floats; fills d_gamma and d_beta.
  NormBackward(const float* gamma, const float* saved, const float* d_rule, Index channels, Index count, float* out,
               float* d_gamma, float* d_beta)
      : mean(saved), constant(out), slope(out + channels) {
    for (Index c = 0; c < channels; ++c) {
      const double inverse = saved[channels + c], d_shift = d_rule[channels + c];
      const double d_scale = d_rule[c] - saved[c] * d_shift;
      const double d_variance = -0.5 * gamma[c] * d_scale * inverse * inverse * inverse;
      d_gamma[c] = static_cast<float>(d_scale * inverse);
      d_beta[c] = static_cast<float>(d_shift);
      out[c] = static_cast<float>(-gamma[c] * inverse * d_shift / count);
      out[channels + c] = static_cast<float>(2.0 * d_variance / count);
    }
  }

  // out = that gradient for `pixels` pixels of channels [first, first + channels); padding lanes are 0.
  void read(const float* y, const float* dy, Index stride, Index first, Index channels, float* out, Index out_stride,
            Index pixels) const {
    const Index whole = channels / lanes * lanes;
    y += first, dy += first;
    const float *m = mean + first, *a = constant + first, *b = slope + first;
    const Index ahead = pixels_ahead(channels) * stride;
    for (Index p = 0; p < pixels; ++p, y += stride, dy += stride, out += out_stride) {
      for (Index c = 0; c < channels; c += 16) fetch(y + ahead + c), fetch(dy + ahead + c);
      for (Index c = 0; c < whole; c += lanes)
        store(out + c, load(dy + c) + load(a + c) + load(b + c) * (load(y + c) - load(m + c)));
      if (whole < channels) {
        const Index n = channels - whole;
        store(out + whole, load_part(dy + whole, n) + load_part(a + whole, n) +
                               load_part(b + whole, n) * (load_part(y + whole, n) - load_part(m + whole, n)));
      }
    }
  }
};

}  // namespace cpu
