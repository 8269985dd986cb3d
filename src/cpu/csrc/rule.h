// The rule of a tensor: what is still to be done to it when it is read.
//
// Between two layers a raw convolution output travels with a rule [3, C] (scale, shift, code): its reader sees
// activation(x * scale + shift), so the normalised tensor is never stored. A rule of one element means "as it is".
#pragma once

#include <type_traits>

#include "runtime.h"

namespace cpu {

// src/cpu/operators.py reads the codes here.
enum Code { PLAIN = 0, AFFINE = 1, RELU = 2, RELU6 = 3, HSWISH = 4, HSIGMOID = 5 };

template <int CODE>
INLINE Vec activate(Vec z) {
  if constexpr (CODE == RELU) return at_least(z, Vec{});
  if constexpr (CODE == RELU6) return at_most(at_least(z, Vec{}), splat(6.f));
  if constexpr (CODE == HSWISH) return z * at_most(at_least(z + 3.f, Vec{}), splat(6.f)) * (1.f / 6.f);
  return z;
}

// d activation(z) / dz times dy.
template <int CODE>
INLINE Vec activate_grad(Vec z, Vec dy) {
  if constexpr (CODE == RELU) return z > 0.f ? dy : Vec{};
  if constexpr (CODE == RELU6) return (z > 0.f) & (z < 6.f) ? dy : Vec{};
  if constexpr (CODE == HSWISH) {
    const Vec inner = dy * (z * (1.f / 3.f) + 0.5f);
    return z <= -3.f ? Vec{} : (z >= 3.f ? dy : inner);
  }
  return dy;
}

struct Rule {
  int code;
  const float* scale;
  const float* shift;

  Rule() : code(PLAIN), scale(nullptr), shift(nullptr) {}
  Rule(const Tensor& rule, Index channels) : Rule() {
    if (rule.size() > 1) {
      scale = rule;
      shift = scale + channels;
      code = static_cast<int>(shift[channels]);
    }
  }
  bool plain() const { return code == PLAIN; }
  const float* scale_at(Index c) const { return plain() ? nullptr : scale + c; }
  const float* shift_at(Index c) const { return plain() ? nullptr : shift + c; }
};

template <int N>
using Constant = std::integral_constant<int, N>;

// Runs body(Constant<CODE>()), so that the body can use the code as a template argument.
template <class Body>
INLINE void with_code(int code, Body&& body) {
  switch (code) {
    case AFFINE: return body(Constant<AFFINE>());
    case RELU: return body(Constant<RELU>());
    case RELU6: return body(Constant<RELU6>());
    case HSWISH: return body(Constant<HSWISH>());
    default: return body(Constant<PLAIN>());
  }
}

template <int CODE>
INLINE Vec applied(Vec x, const float* scale, const float* shift, Index c, Index n) {
  if constexpr (CODE == PLAIN) return x;
  return activate<CODE>(x * load_some(scale + c, n) + load_some(shift + c, n));
}

// How many pixels ahead memory is asked for; a row of some of the channels is no stream that processors foresee.
inline Index pixels_ahead(Index channels) { return 512 / channels + 1; }

// out[pixel, c] = the value of x[pixel, c] for c in [0, channels), channels counted from the `first` of the rule;
// strides in floats. The lanes that round `channels` up to whole vectors are written as 0 (out has room for them).
inline void read_pixels(const Rule& rule, Index first, const float* x, Index x_stride, Index channels, float* out,
                        Index out_stride, Index pixels) {
  const Index whole = channels / lanes * lanes;
  const float *scale = rule.scale_at(first), *shift = rule.shift_at(first);
  with_code(rule.code, [&](auto code) {
    constexpr int CODE = code;
    const Index ahead = pixels_ahead(channels) * x_stride;
    for (Index p = 0; p < pixels; ++p, x += x_stride, out += out_stride) {
      for (Index c = 0; c < channels; c += 16) fetch(x + ahead + c);
      for (Index c = 0; c < whole; c += lanes) store(out + c, applied<CODE>(load(x + c), scale, shift, c, lanes));
      if (whole < channels) {
        const Index n = channels - whole;
        store(out + whole, applied<CODE>(load_part(x + whole, n), scale, shift, whole, n));
      }
    }
  });
}

// Sums of what a rule's scale and shift receive, per thread: float over a tile, double in all.
struct RuleSums {
  Index channels;  // padded
  float *scale, *shift;
  double *total_scale, *total_shift;

  static constexpr Index bytes_per_channel = 2 * sizeof(float) + 2 * sizeof(double);

  RuleSums(char* memory, Index padded)
      : channels(padded), scale(reinterpret_cast<float*>(memory + 2 * padded * sizeof(double))), shift(scale + padded),
        total_scale(reinterpret_cast<double*>(memory)), total_shift(total_scale + padded) {}
  void clear() { std::memset(total_scale, 0, channels * bytes_per_channel); }
  void finish_tile() {
    flush(scale, total_scale, channels);
    flush(shift, total_shift, channels);
  }
};

// All threads' sums into the gradient of a rule [3, C]; `memory` holds one RuleSums after the other.
inline void merge_rule_sums(char* memory, Index team, Index padded, Index channels, float* d_rule) {
  for (Index c = 0; c < channels; ++c) {
    double scale = 0, shift = 0;
    for (Index t = 0; t < team; ++t) {
      const RuleSums part(memory + t * padded * RuleSums::bytes_per_channel, padded);
      scale += part.total_scale[c];
      shift += part.total_shift[c];
    }
    d_rule[c] = static_cast<float>(scale);
    d_rule[channels + c] = static_cast<float>(shift);
    d_rule[2 * channels + c] = 0;
  }
}

// Backward through the rule, in place: d holds the gradient of the value and becomes that of x, channels counted from
// the `first` of the rule. Adds to the sums; at most a few hundred pixels between two finish_tile().
inline void rule_backward(const Rule& rule, Index first, const float* x, float* d, Index stride, Index channels,
                          Index pixels, RuleSums& sums) {
  if (rule.plain()) return;
  const float *scale = rule.scale + first, *shift = rule.shift + first;
  with_code(rule.code, [&](auto code) {
    constexpr int CODE = code;
    // Eight pixels at a time, so that the sums stay in registers meanwhile.
    for (Index p = 0; p < pixels; p += 8) {
      const Index rows = std::min<Index>(8, pixels - p);
      for (Index c = 0; c < channels; c += lanes) {
        const Index n = channels - c;
        const Vec a = load_some(scale + c, n), b = load_some(shift + c, n);
        Vec s = {}, t = {};
        for (Index i = 0; i < rows; ++i) {
          const Index at = (p + i) * stride + c;
          const Vec value = load_some(x + at, n);
          const Vec dz = activate_grad<CODE>(value * a + b, load_some(d + at, n));
          s += dz * value;
          t += dz;
          store_some(d + at, dz * a, n);
        }
        add_to(sums.scale + first + c, s);
        add_to(sums.shift + first + c, t);
      }
    }
  });
}

}  // namespace cpu
