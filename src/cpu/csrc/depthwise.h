// Depthwise k x k convolutions, k = 3, 5, 7, stride 1 or 2. Vectors run over channels; activated input rows wait in a
// ring of k rows (in cache), zero-padded left and right; rows outside the image are left out of the sums.
#pragma once

#include "norm.h"

namespace cpu {

struct DepthwiseShape {
  Index n, height, width, channels, kernel, stride, pad, out_height, out_width;

  DepthwiseShape(const Tensor& x, const Tensor& w, const Tensor& y)
      : n(x.dim(0)), height(x.dim(1)), width(x.dim(2)), channels(x.dim(3)), kernel(w.dim(2)), pad(kernel / 2),
        out_height(y.dim(1)), out_width(y.dim(2)) {
    stride = out_height == height && out_width == width ? 1 : 2;
  }
  Index line() const { return width + 2 * pad; }  // pixels of a ring row
};

// Channels cut into chunks whose ring of `rows` rows of `line` pixels stays in the second-level cache.
struct Chunks {
  Index channels, count, size;
  Chunks(Index channels, Index rows, Index line, Index at_least) : channels(channels) {
    constexpr Index bytes = 160 * 1024, unit = 16;
    const Index fitting = std::max(bytes / (4 * rows * line) / unit * unit, unit);
    count = std::max(divide_up(channels, fitting), std::min(at_least, divide_up(channels, unit)));
    size = round_up(divide_up(channels, count), unit);
    count = divide_up(channels, size);
  }
  Range operator[](Index i) const { return {i * size, std::min(channels, (i + 1) * size)}; }
};

// The input rows that one output row sums over, with the kernel row that belongs to each.
struct Taps {
  const float* line[7];
  const float* weight[7];
  Index count = 0;
  void add(const float* l, const float* w) {
    line[count] = l;
    weight[count++] = w;
  }
};

// Adds what one line gives to XT outputs: one load for each input column, used by every output it belongs to.
template <int K, int S, int XT>
INLINE void add_line(const float* from, Index pixel, const Vec (&w)[K], Vec (&sum)[XT]) {
#pragma GCC unroll 32
  for (int j = 0; j < (XT - 1) * S + K; ++j) {
    const Vec v = load(from + j * pixel);
#pragma GCC unroll 8
    for (int i = 0; i < XT; ++i)
      if (j - i * S >= 0 && j - i * S < K) sum[i] += v * w[j - i * S];
  }
}

// sum[i] for outputs x + i: one load per input column and kernel row, used by every output it belongs to.
template <int K, int S, int XT>
INLINE void convolve_columns(const Taps& taps, Index x, Index c, Index pixel, Vec (&sum)[XT]) {
#pragma GCC unroll 8
  for (int i = 0; i < XT; ++i) sum[i] = Vec{};
  for (Index r = 0; r < taps.count; ++r) {
    Vec w[K];
#pragma GCC unroll 8
    for (int j = 0; j < K; ++j) keep(w[j] = load(taps.weight[r] + j * pixel + c));
    const float* from = taps.line[r] + x * S * pixel + c;
    add_line<K, S, XT>(from, pixel, w, sum);
  }
}

// A stride-2 convolution transposed, at inputs x + i, x even: tap j of input x + i is output (x + i + pad - j) / 2.
template <int K, int XT>
INLINE void spread_columns(const Taps& taps, Index x, Index c, Index pixel, Vec (&sum)[XT]) {
  constexpr int pad = K / 2, first = -(pad / 2), last = (XT - 1 + pad) / 2;
#pragma GCC unroll 8
  for (int i = 0; i < XT; ++i) sum[i] = Vec{};
  for (Index r = 0; r < taps.count; ++r) {
    Vec w[K];
#pragma GCC unroll 8
    for (int j = 0; j < K; ++j) keep(w[j] = load(taps.weight[r] + j * pixel + c));
    const float* from = taps.line[r] + (x / 2 + pad) * pixel + c;
#pragma GCC unroll 16
    for (int m = first; m <= last; ++m) {
      const Vec v = load(from + m * pixel);
#pragma GCC unroll 8
      for (int i = 0; i < XT; ++i)
        if (i + pad - 2 * m >= 0 && i + pad - 2 * m < K) sum[i] += v * w[i + pad - 2 * m];
    }
  }
}

// One row of a convolution (T = false) or of its transpose (T = true, stride 2), `width` results.
template <int K, int S, bool T, int XT, class Epilogue>
INLINE void row_part(const Taps& taps, Index& x, Index width, Index c, Index pixel, Epilogue& out) {
  for (; x + XT <= width; x += XT) {
    Vec sum[XT];
    if constexpr (T)
      spread_columns<K, XT>(taps, x, c, pixel, sum);
    else
      convolve_columns<K, S, XT>(taps, x, c, pixel, sum);
    out(sum, x, c);
  }
}

template <int K, int S, bool T, class Epilogue>
inline void convolve_row(const Taps& taps, Index width, Index channels, Index pixel, Epilogue& out) {
  for (Index c = 0; c < channels; c += lanes) {
    out.open(c);
    Index x = 0;
    row_part<K, S, T, T ? 6 : 7>(taps, x, width, c, pixel, out);
    row_part<K, S, T, T ? 2 : 3>(taps, x, width, c, pixel, out);
    row_part<K, S, T, 1>(taps, x, width, c, pixel, out);
    out.close(c);
  }
}

// d weight += sum over x of input (R ring rows) times the output's gradient (one row).
template <int K, int S, int R>
inline void weight_rows(const float* const* lines, const float* grad, Index width, Index channels, Index pixel,
                        float* sum) {
  for (Index c = 0; c < channels; c += lanes) {
    Vec part[R][K] = {};
    for (Index x = 0; x < width; ++x) {
      const Vec g = load(grad + x * pixel + c);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int j = 0; j < K; ++j) part[r][j] += load(lines[r] + (x * S + j) * pixel + c) * g;
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int j = 0; j < K; ++j) add_to(sum + (r * K + j) * pixel + c, part[r][j]);
  }
}

// Runs body(kernel, stride) with both as constants.
template <class Body>
INLINE void with_kernel(Index kernel, Index stride, Body&& body) {
  if (stride == 1) {
    if (kernel == 3) return body(Constant<3>(), Constant<1>());
    if (kernel == 5) return body(Constant<5>(), Constant<1>());
    return body(Constant<7>(), Constant<1>());
  }
  if (kernel == 3) return body(Constant<3>(), Constant<2>());
  if (kernel == 5) return body(Constant<5>(), Constant<2>());
  return body(Constant<7>(), Constant<2>());
}

// Kernel rows [kernel][kernel][pixel] of channels [c0, c1) from weights [channels, 1, kernel, kernel].
inline void pack_kernel(const float* w, Index kernel, Range c, Index pixel, float* packed, bool mirrored) {
  const Index area = kernel * kernel;
  for (Index t = 0; t < area; ++t) {
    const Index from = mirrored ? t / kernel * kernel + kernel - 1 - t % kernel : t;
    float* to = packed + t * pixel;
    std::fill(to, to + pixel, 0.f);
    for (Index i = c.begin; i < c.end; ++i) to[i - c.begin] = w[i * area + from];
  }
}

// A ring of rows of activated pixels.
struct Ring {
  float* memory;
  Index rows, line, pixel, pad;
  float* at(Index y) const { return memory + y % rows * line * pixel; }
  void clear() const { std::memset(memory, 0, rows * line * pixel * sizeof(float)); }
  static Index floats(Index rows, Index line, Index pixel) { return rows * line * pixel; }
};

// What forward passes share: rows of outputs in order, `row(output line number, taps)` for each.
template <class EachRow>
inline void walk_rows(const DepthwiseShape& s, const float* x, const Rule& rule, Range c, Range lines, const Ring& ring,
                      const float* kernel, EachRow&& each) {
  ring.clear();
  Index image = -1, loaded = 0;  // rows [loaded - k, loaded) of `image` are in the ring
  for (Index l = lines.begin; l < lines.end; ++l) {
    const Index n = l / s.out_height, top = l % s.out_height * s.stride - s.pad;
    const Index begin = std::max<Index>(top, 0), end = std::min(top + s.kernel, s.height);
    if (n != image) image = n, loaded = begin;
    for (loaded = std::max(loaded, begin); loaded < end; ++loaded)
      read_pixels(rule, c.begin, x + ((n * s.height + loaded) * s.width) * s.channels + c.begin, s.channels,
                  c.end - c.begin, ring.at(loaded) + s.pad * ring.pixel, ring.pixel, s.width);
    Taps taps;
    for (Index y = begin; y < end; ++y) taps.add(ring.at(y), kernel + (y - top) * s.kernel * ring.pixel);
    each(l, taps);
  }
}

struct DepthwiseStore {
  float* y;
  Index stride, channels;
  float *shift, *sum, *square;
  Vec low = {}, s = {}, q = {};

  void open(Index c) { low = load(shift + c), s = Vec{}, q = Vec{}; }
  template <std::size_t XT>
  INLINE void operator()(Vec (&out)[XT], Index x, Index c) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < XT; ++i) {
      store_some(y + (x + i) * stride + c, out[i], channels - c);
      const Vec d = out[i] - low;
      s += d;
      q += d * d;
    }
  }
  void close(Index c) {
    add_to(sum + c, s);
    add_to(square + c, q);
  }
};

// out = column 0 of the row that `taps` gives; not fast.
inline void convolve_first(const Taps& taps, Index kernel, Index channels, Index pixel, float* out) {
  for (Index c = 0; c < channels; c += lanes) {
    Vec sum = {};
    for (Index r = 0; r < taps.count; ++r)
      for (Index j = 0; j < kernel; ++j)
        sum += load(taps.line[r] + j * pixel + c) * load(taps.weight[r] + j * pixel + c);
    store(out + c, sum);
  }
}

inline void depthwise_forward(const DepthwiseShape& s, const float* x, const Rule& rule, const float* w, float* y,
                              const NormForward& norm, Scratch& scratch) {
  const Index team = threads();
  const Chunks chunks(s.channels, s.kernel, s.line(), 1);
  const Index ring_floats = Ring::floats(s.kernel, s.line(), chunks.size);
  const Index kernel_floats = s.kernel * s.kernel * chunks.size;
  const Index padded = chunks.count * chunks.size;
  float* rings = scratch.take<float>(team * ring_floats);
  float* kernels = scratch.take<float>(team * kernel_floats);
  const Index moment_bytes = padded * Moments::bytes_per_channel;
  char* memory = scratch.take<char>(team * moment_bytes);
  Moments* moments = scratch.take<Moments>(team);
#pragma omp parallel num_threads(team)
  {
    const Index me = omp_get_thread_num();
    Moments& mine = *new (moments + me) Moments(memory + me * moment_bytes, padded);
    mine.clear();
    const Range lines = part_of(s.n * s.out_height, 1, me, team);
    mine.count = (lines.end - lines.begin) * s.out_width;
    float* kernel = kernels + me * kernel_floats;
    const Ring ring{rings + me * ring_floats, s.kernel, s.line(), chunks.size, s.pad};
    for (Index i = 0; i < chunks.count; ++i) {
      const Range c = chunks[i];
      const Index channels = c.end - c.begin;
      pack_kernel(w, s.kernel, c, ring.pixel, kernel, false);
      with_kernel(s.kernel, s.stride, [&](auto k, auto stride) {
        walk_rows(s, x, rule, c, lines, ring, kernel, [&](Index l, const Taps& taps) {
          if (l == lines.begin) convolve_first(taps, s.kernel, channels, ring.pixel, mine.shift + c.begin);
          DepthwiseStore out{y + l * s.out_width * s.channels + c.begin,
                             s.channels,
                             channels,
                             mine.shift + c.begin,
                             mine.sum + c.begin,
                             mine.square + c.begin};
          convolve_row<k, stride, false>(taps, s.out_width, channels, ring.pixel, out);
          if (l % 8 == 0) mine.finish_tile();
        });
      });
    }
    mine.finish_tile();
#pragma omp barrier
#pragma omp for schedule(static)
    for (Index c = 0; c < s.channels; ++c) norm.channel(c, s.channels, moments, team, c);
  }
}

// activation(sum * scale + shift).
template <bool SWISH>
struct DepthwiseNormalised {
  float* y;
  Index stride, channels;
  const float *scale, *shift;
  Finish finish;
  Vec s = {}, t = {};

  void open(Index c) { s = load(scale + c), t = load(shift + c); }
  template <std::size_t XT>
  INLINE void operator()(Vec (&out)[XT], Index x, Index c) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < XT; ++i)
      store_some(y + (x + i) * stride + c, finish.apply<SWISH>(out[i] * s + t), channels - c);
  }
  void close(Index) {}
};

inline void depthwise_infer(const DepthwiseShape& s, const float* x, const Rule& rule, const float* w, float* y,
                            const NormInference& norm, Scratch& scratch) {
  const Index team = threads();
  const Chunks chunks(s.channels, s.kernel, s.line(), 1);
  const Index ring_floats = Ring::floats(s.kernel, s.line(), chunks.size);
  const Index kernel_floats = s.kernel * s.kernel * chunks.size;
  float* rings = scratch.take<float>(team * ring_floats);
  float* kernels = scratch.take<float>(team * kernel_floats);
  float* scale = scratch.take<float>(chunks.count * chunks.size);
  float* shift = scratch.take<float>(chunks.count * chunks.size);
  for (Index c = 0; c < s.channels; ++c) norm.channel(c, scale + c, shift + c);
  const int code = static_cast<int>(norm.settings.code);
#pragma omp parallel num_threads(team)
  {
    const Index me = omp_get_thread_num();
    const Range lines = part_of(s.n * s.out_height, 1, me, team);
    float* kernel = kernels + me * kernel_floats;
    const Ring ring{rings + me * ring_floats, s.kernel, s.line(), chunks.size, s.pad};
    for (Index i = 0; i < chunks.count; ++i) {
      const Range c = chunks[i];
      pack_kernel(w, s.kernel, c, ring.pixel, kernel, false);
      with_kernel(s.kernel, s.stride, [&](auto k, auto stride) {
        const auto run = [&](auto swish) {
          walk_rows(s, x, rule, c, lines, ring, kernel, [&](Index l, const Taps& taps) {
            DepthwiseNormalised<swish> out{y + l * s.out_width * s.channels + c.begin,
                                           s.channels,
                                           c.end - c.begin,
                                           scale + c.begin,
                                           shift + c.begin,
                                           Finish(code)};
            convolve_row<k, stride, false>(taps, s.out_width, c.end - c.begin, ring.pixel, out);
          });
        };
        code == HSWISH ? run(std::true_type()) : run(std::false_type());
      });
    }
  }
}

struct DepthwiseRaw {
  float* out;
  Index stride, channels;
  void open(Index) {}
  template <std::size_t XT>
  INLINE void operator()(Vec (&sum)[XT], Index x, Index c) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < XT; ++i) store_some(out + (x + i) * stride + c, sum[i], channels - c);
  }
  void close(Index) {}
};

inline void depthwise_backward(const DepthwiseShape& s, const float* x, const Rule& rule, const float* w,
                               const float* y, const float* dy, const NormBackward& norm, float* dx, float* d_rule,
                               float* dw, Scratch& scratch) {
  const Index team = threads(), area = s.kernel * s.kernel;
  const Index grad_line = s.out_width + 2 * s.pad;
  const Chunks chunks(s.channels, 2 * s.kernel, s.line(), divide_up(team, s.n));
  const Index units = s.n * chunks.count, pixel = chunks.size, padded = chunks.count * pixel;
  float* rings = scratch.take<float>(team * Ring::floats(s.kernel, s.line(), pixel));
  float* grad_rings = scratch.take<float>(team * Ring::floats(s.kernel, grad_line, pixel));
  float* kernels = scratch.take<float>(team * area * pixel);
  float* sums = scratch.take<float>(team * area * pixel);
  double* totals = scratch.take<double>(team * area * padded);
  const Index rule_bytes = padded * RuleSums::bytes_per_channel;
  char* memory = scratch.take<char>(team * rule_bytes);
#pragma omp parallel num_threads(team)
  {
    const Index me = omp_get_thread_num();
    const Ring ring{rings + me * Ring::floats(s.kernel, s.line(), pixel), s.kernel, s.line(), pixel, s.pad};
    const Ring grads{grad_rings + me * Ring::floats(s.kernel, grad_line, pixel), s.kernel, grad_line, pixel, s.pad};
    float* kernel = kernels + me * area * pixel;
    float* sum = sums + me * area * pixel;
    double* total = totals + me * area * padded;
    RuleSums rules(memory + me * rule_bytes, padded);
    rules.clear();
    ring.clear();
    grads.clear();
    std::memset(total, 0, area * padded * sizeof(double));
    std::memset(sum, 0, area * pixel * sizeof(float));
    const Range mine = part_of(units, 1, me, team);
    for (Index unit = mine.begin; unit < mine.end; ++unit) {
      // Chunks outermost: the packed kernel serves all images of a chunk.
      const Index n = unit % s.n;
      const Range c = chunks[unit / s.n];
      const Index channels = c.end - c.begin;
      if (unit == mine.begin || n == 0) pack_kernel(w, s.kernel, c, pixel, kernel, s.stride == 1);
      const Index in = n * s.height * s.width * s.channels + c.begin;
      const Index out = n * s.out_height * s.out_width * s.channels;
      with_kernel(s.kernel, s.stride, [&](auto k_constant, auto stride_constant) {
        constexpr int K = k_constant, S = stride_constant, R = K == 3 ? 3 : K == 5 ? 2 : 1;
        Index loaded = 0, done = 0;
        for (Index oy = 0; oy < s.out_height; ++oy) {
          const Index line = out + oy * s.out_width * s.channels, top = oy * S - s.pad;
          norm.read(y + line, dy + line, s.channels, c.begin, channels, grads.at(oy) + s.pad * pixel, pixel,
                    s.out_width);
          const Index begin = std::max<Index>(top, 0), end = std::min(top + K, s.height);
          for (; loaded < end; ++loaded)
            read_pixels(rule, c.begin, x + in + loaded * s.width * s.channels, s.channels, channels,
                        ring.at(loaded) + s.pad * pixel, pixel, s.width);
          const float* grad = grads.at(oy) + s.pad * pixel;
          Index iy = begin;
          for (; iy + R <= end; iy += R) {
            const float* lines[R];
            for (int r = 0; r < R; ++r) lines[r] = ring.at(iy + r);
            weight_rows<K, S, R>(lines, grad, s.out_width, channels, pixel, sum + (iy - top) * K * pixel);
          }
          for (; iy < end; ++iy) {
            const float* lines[1] = {ring.at(iy)};
            weight_rows<K, S, 1>(lines, grad, s.out_width, channels, pixel, sum + (iy - top) * K * pixel);
          }
          // Input rows to which no later output row contributes are complete.
          for (; done < s.height && std::min((done + s.pad) / S, s.out_height - 1) <= oy; ++done) {
            Taps taps;
            for (Index i = 0; i < K; ++i) {
              const Index from = done + s.pad - i;
              if (from >= 0 && from % S == 0 && from / S < s.out_height)
                taps.add(grads.at(from / S), kernel + i * K * pixel);
            }
            const Index at = in + done * s.width * s.channels;
            DepthwiseRaw store{dx + at, s.channels, channels};
            convolve_row<K, S, S == 2>(taps, s.width, channels, pixel, store);
            rule_backward(rule, c.begin, x + at, dx + at, s.channels, channels, s.width, rules);
          }
          if (oy % 8 == 7) {
            flush(rules.scale + c.begin, rules.total_scale + c.begin, pixel);
            flush(rules.shift + c.begin, rules.total_shift + c.begin, pixel);
          }
        }
      });
      flush(rules.scale + c.begin, rules.total_scale + c.begin, pixel);
      flush(rules.shift + c.begin, rules.total_shift + c.begin, pixel);
      for (Index t = 0; t < area; ++t) flush(sum + t * pixel, total + t * padded + c.begin, pixel);
    }
#pragma omp barrier
#pragma omp for schedule(static)
    for (Index c = 0; c < s.channels; ++c) {
      for (Index t = 0; t < area; ++t) {
        double all = 0;
        for (Index p = 0; p < team; ++p) all += totals[(p * area + t) * padded + c];
        dw[c * area + t] = static_cast<float>(all);
      }
    }
  }
  if (d_rule) merge_rule_sums(memory, team, padded, s.channels, d_rule);
}

}  // namespace cpu
