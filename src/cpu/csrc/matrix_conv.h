// Convolutions that are matrix products: 1x1 (also grouped) on pixels, and the stem on taps of an image.
#pragma once

#include "gemm.h"
#include "norm.h"

namespace cpu {

// A 1x1 convolution reads a tensor [pixels, channels] under its rule.
struct PixelSource {
  static constexpr bool offsets = false;
  const float* x;
  Rule rule;
  Index channels, groups, pixels, k;
  Index grain = row_grain, tile_rows, padded;

  PixelSource(const float* x, const Rule& rule, Index pixels, Index channels, Index groups, Index tile_bytes,
              Index most_rows)
      : x(x), rule(rule), channels(channels), groups(groups), pixels(pixels), k(channels / groups),
        padded(round_up(channels, lanes)) {
    const Index fitting = tile_bytes / (4 * padded) / row_grain * row_grain;
    tile_rows = std::clamp<Index>(fitting, 2 * row_grain, most_rows);
  }
  Index tile_floats() const { return rule.plain() ? 0 : tile_rows * padded; }
  Rows tile(Index row, Index rows, float* buffer) const {
    if (rule.plain()) return {x + row * channels, channels, nullptr};
    read_pixels(rule, 0, x + row * channels, channels, channels, buffer, padded, rows);
    return {buffer, padded, nullptr};
  }
  static Rows group(const Rows& a, Index offset) { return {a.data + offset, a.stride, nullptr}; }
};

// The stem reads an image [n, channels, height, width]; a tile is one row of output pixels, and tap (c, i, j) of pixel
// x lies at (c * kernel + i) * row + j + x * stride of the padded rows it copies.
struct ImageSource {
  static constexpr bool offsets = true;
  static constexpr Index groups = 1;
  const float* image;
  Index channels, height, width, kernel, stride, pad, out_height, out_width, padded_row;
  Index pixels, k, grain, tile_rows;
  Index* table;

  ImageSource(const Tensor& x, const Tensor& w, const Tensor& y, Scratch& scratch)
      : image(x), channels(x.dim(1)), height(x.dim(2)), width(x.dim(3)), kernel(w.dim(2)), out_height(y.dim(1)),
        out_width(y.dim(2)) {
    stride = out_height == height && out_width == width ? 1 : 2;
    pad = kernel / 2;
    padded_row = (out_width - 1) * stride + kernel;
    pixels = y.dim(0) * out_height * out_width;
    k = channels * kernel * kernel;
    grain = tile_rows = out_width;
    table = scratch.take<Index>(k);
    for (Index t = 0; t < k; ++t) table[t] = t / kernel * padded_row + t % kernel;
  }
  Index tile_floats() const { return channels * kernel * padded_row; }
  Rows tile(Index row, Index, float* buffer) const {
    const Index line = row / out_width, n = line / out_height, top = line % out_height * stride - pad;
    const Index copied = std::min(width, padded_row - pad);
    for (Index r = 0; r < channels * kernel; ++r) {
      float* to = buffer + r * padded_row;
      std::memset(to, 0, padded_row * sizeof(float));
      const Index y = top + r % kernel;
      if (y >= 0 && y < height)
        std::memcpy(to + pad, image + ((n * channels + r / kernel) * height + y) * width, copied * sizeof(float));
    }
    return {buffer, stride, table};
  }
  static Rows group(const Rows& a, Index) { return a; }
};

// Weights [out, in / groups, ...] and their padded layout: every group's columns start a new vector.
struct Shape {
  Index out, groups, n, padded_n, padded;
  Shape(Index out, Index groups)
      : out(out), groups(groups), n(out / groups), padded_n(round_up(n, lanes)), padded(groups * padded_n) {}
  Index padded_channel(Index c) const { return c / n * padded_n + c % n; }
};

inline void pack_weights(const float* w, Index k, const Shape& shape, const Panels& panels, float* packed) {
#pragma omp for schedule(static)
  for (Index i = 0; i < shape.groups * panels.count; ++i) {
    const Index g = i / panels.count;
    const Index panel = i % panels.count, at = g * panels.size() + panels.first(panel) * lanes * k;
    panels.pack_rows(panel, w + g * shape.n * k, nullptr, packed + at);
  }
}

// Stores the raw output and adds its moments.
struct StoreAndMeasure {
  float* y;
  Index stride, n, padded_first;
  Moments& moments;

  template <Index MR, Index NV>
  INLINE void operator()(Vec (&sum)[MR][NV], Index row, Index column) {
    float* to = y + row * stride + column;
#pragma GCC unroll 8
    for (Index v = 0; v < NV; ++v) {
      const Vec shift = load(moments.shift + padded_first + column + v * lanes);
      Vec s = {}, q = {};
      const Index left = n - column - v * lanes;
#pragma GCC unroll 8
      for (Index i = 0; i < MR; ++i) {
        store_some(to + i * stride + v * lanes, sum[i][v], left);
        const Vec d = sum[i][v] - shift;
        s += d;
        q += d * d;
      }
      moments.add(padded_first + column + v * lanes, s, q);
    }
  }
};

// activation(sum * scale + shift [+ residual]); scale and shift in the padded layout of one group.
template <bool SWISH>
struct StoreNormalised {
  float* y;
  const float* residual;
  Index stride, n;
  const float *scale, *shift;
  Finish finish;

  template <Index MR, Index NV>
  INLINE void operator()(Vec (&sum)[MR][NV], Index row, Index column) {
    const Index at = row * stride + column;
#pragma GCC unroll 8
    for (Index v = 0; v < NV; ++v) {
      const Vec s = load(scale + column + v * lanes), t = load(shift + column + v * lanes);
      const Index left = n - column - v * lanes;
#pragma GCC unroll 8
      for (Index i = 0; i < MR; ++i) {
        const Index to = at + i * stride + v * lanes;
        Vec z = sum[i][v] * s + t;
        if (residual) z += load_some(residual + to, left);
        store_some(y + to, finish.apply<SWISH>(z), left);
      }
    }
  }
};

struct Store {
  float* out;
  Index stride, n;

  template <Index MR, Index NV>
  INLINE void operator()(Vec (&sum)[MR][NV], Index row, Index column) {
#pragma GCC unroll 8
    for (Index v = 0; v < NV; ++v)
#pragma GCC unroll 8
      for (Index i = 0; i < MR; ++i)
        store_some(out + (row + i) * stride + column + v * lanes, sum[i][v], n - column - v * lanes);
  }
};

// y, its rule, its saved statistics and the new moving statistics.
template <class Source>
void convolve_and_normalise(const Source& source, const float* w, Index out, float* y, const NormForward& norm,
                            Scratch& scratch) {
  const Shape shape(out, source.groups);
  const Panels panels(source.k, shape.n);
  const Index team = threads();
  float* packed = scratch.take<float>(shape.groups * panels.size());
  float* tiles = scratch.take<float>(team * source.tile_floats());
  const Index moment_bytes = shape.padded * Moments::bytes_per_channel;
  char* memory = scratch.take<char>(team * moment_bytes);
  Moments* moments = scratch.take<Moments>(team);
#pragma omp parallel num_threads(team)
  {
    const Index me = omp_get_thread_num();
    pack_weights(w, source.k, shape, panels, packed);
    float* buffer = tiles + me * source.tile_floats();
    Moments& mine = *new (moments + me) Moments(memory + me * moment_bytes, shape.padded);
    mine.clear();
    const Range range = part_of(source.pixels, source.grain, me, team);
    mine.count = range.end - range.begin;
    for (Index row = range.begin; row < range.end; row += source.tile_rows) {
      const Index rows = std::min(source.tile_rows, range.end - row);
      const Rows a = source.tile(row, rows, buffer);
      for (Index g = 0; g < shape.groups; ++g) {
        const Rows part = Source::group(a, g * source.k);
        const float* b = packed + g * panels.size();
        if (row == range.begin) multiply_first_row(part, panels, b, mine.shift + g * shape.padded_n);
        StoreAndMeasure store{y + row * out + g * shape.n, out, shape.n, g * shape.padded_n, mine};
        multiply<Source::offsets>(part, rows, panels, b, 0, panels.count, store);
      }
      mine.finish_tile();
    }
#pragma omp barrier
#pragma omp for schedule(static)
    for (Index c = 0; c < out; ++c) norm.channel(c, out, moments, team, shape.padded_channel(c));
  }
}

template <class Source>
void convolve_for_inference(const Source& source, const float* w, Index out, float* y, const float* residual,
                            const NormInference& norm, Scratch& scratch) {
  const Shape shape(out, source.groups);
  const Panels panels(source.k, shape.n);
  const Index team = threads(), all_panels = shape.groups * panels.count;
  const int code = static_cast<int>(norm.settings.code);
  float* packed = scratch.take<float>(shape.groups * panels.size());
  float* tiles = scratch.take<float>(team * source.tile_floats());
  float* scale = scratch.take<float>(shape.padded);
  float* shift = scratch.take<float>(shape.padded);
  for (Index c = 0; c < out; ++c) norm.channel(c, scale + shape.padded_channel(c), shift + shape.padded_channel(c));
  // Few pixels, many weights: every thread takes all pixels and some of the columns, and packs only those.
  const bool by_columns = source.pixels < team * 4 * row_grain && all_panels >= team;
#pragma omp parallel num_threads(team)
  {
    const Index me = omp_get_thread_num();
    float* buffer = tiles + me * source.tile_floats();
    const Range columns = by_columns ? part_of(all_panels, 1, me, team) : Range{0, all_panels};
    const Range range = by_columns ? Range{0, source.pixels} : part_of(source.pixels, source.grain, me, team);
    if (by_columns)
      for (Index i = columns.begin; i < columns.end; ++i)
        panels.pack_rows(i % panels.count, w + i / panels.count * shape.n * source.k, nullptr,
                         packed + i / panels.count * panels.size() + panels.first(i % panels.count) * lanes * source.k);
    else
      pack_weights(w, source.k, shape, panels, packed);
    const auto run = [&](auto swish) {
      for (Index row = range.begin; row < range.end; row += source.tile_rows) {
        const Index rows = std::min(source.tile_rows, range.end - row);
        const Rows a = source.tile(row, rows, buffer);
        for (Index g = columns.begin / panels.count; g < divide_up(columns.end, panels.count); ++g) {
          const Index begin = std::max<Index>(columns.begin - g * panels.count, 0);
          const Index end = std::min(columns.end - g * panels.count, panels.count);
          const Index at = row * out + g * shape.n;
          StoreNormalised<swish> store{y + at,      residual ? residual + at : nullptr, out,
                                       shape.n,     scale + g * shape.padded_n,         shift + g * shape.padded_n,
                                       Finish(code)};
          multiply<Source::offsets>(Source::group(a, g * source.k), rows, panels, packed + g * panels.size(), begin,
                                    end, store);
        }
      }
    };
    code == HSWISH ? run(std::true_type()) : run(std::false_type());
  }
}

// All threads' sums, [k][columns] in rows of `stride`, into weights [columns][k]; at most a vector of columns.
inline void merge_weight_sums(const float* sums, Index team, Index team_stride, Index stride, Index k, Index columns,
                              float* weights) {
  for (Index i = 0; i < k; i += lanes) {
    const Index rows = std::min(lanes, k - i);
    Vec square[lanes] = {};
    for (Index t = 0; t < team; ++t)
      for (Index r = 0; r < rows; ++r) square[r] += load(sums + t * team_stride + (i + r) * stride);
    transpose(square);
    for (Index c = 0; c < columns; ++c) store_some(weights + c * k + i, square[c], rows);
  }
}

// Gradients of weights and, for pixels, of the input (dx, d_rule; dx == nullptr: not wanted).
template <class Source>
void convolve_backward(const Source& source, const float* w, Index out, const float* y, const float* dy,
                       const NormBackward& norm, float* dx, float* d_rule, float* dw, Scratch& scratch) {
  const Shape shape(out, source.groups);
  const Panels panels(shape.n, source.k);
  const Index team = threads(), k = source.k, channels = k * shape.groups;
  const Index padded_channels = round_up(channels, lanes);
  const Index partial = shape.groups * k * shape.padded_n;
  float* packed = scratch.take<float>(shape.groups * panels.size());
  float* tiles = scratch.take<float>(team * source.tile_floats());
  float* grads = scratch.take<float>(team * source.tile_rows * shape.padded);
  float* line_panels = scratch.take<float>(team * source.tile_rows * most_vectors * lanes);
  float* partials = scratch.take<float>(team * partial);
  const Index sum_bytes = padded_channels * RuleSums::bytes_per_channel;
  char* memory = scratch.take<char>(team * sum_bytes);
#pragma omp parallel num_threads(team)
  {
    const Index me = omp_get_thread_num();
    if (dx) {
#pragma omp for schedule(static)
      for (Index i = 0; i < shape.groups * panels.count; ++i) {
        const Index g = i / panels.count;
        panels.pack(i % panels.count, w + g * shape.n * k, packed + g * panels.size());
      }
    }
    float* buffer = tiles + me * source.tile_floats();
    float* grad = grads + me * source.tile_rows * shape.padded;
    float* panel = line_panels + me * source.tile_rows * most_vectors * lanes;
    float* sum = partials + me * partial;
    std::memset(sum, 0, partial * sizeof(float));
    RuleSums sums(memory + me * sum_bytes, padded_channels);
    sums.clear();
    const Range range = part_of(source.pixels, source.grain, me, team);
    for (Index row = range.begin; row < range.end; row += source.tile_rows) {
      const Index rows = std::min(source.tile_rows, range.end - row);
      for (Index g = 0; g < shape.groups; ++g)
        norm.read(y + row * out, dy + row * out, out, g * shape.n, shape.n, grad + g * shape.padded_n, shape.padded,
                  rows);
      const Rows a = source.tile(row, rows, buffer);
      for (Index g = 0; g < shape.groups; ++g) {
        accumulate_outer<Source::offsets>(Source::group(a, g * k), k, grad + g * shape.padded_n, shape.padded, shape.n,
                                          rows, panel, sum + g * k * shape.padded_n, shape.padded_n);
        if constexpr (!Source::offsets) {
          const Rows from{grad + g * shape.padded_n, shape.padded, nullptr};
          Store store{dx + row * channels + g * k, channels, k};
          multiply<false>(from, rows, panels, packed + g * panels.size(), 0, panels.count, store);
        }
      }
      if constexpr (!Source::offsets)
        rule_backward(source.rule, 0, source.x + row * channels, dx + row * channels, channels, channels, rows, sums);
      sums.finish_tile();
    }
#pragma omp barrier
#pragma omp for schedule(static)
    for (Index block = 0; block < shape.padded / lanes; ++block) {
      const Index g = block * lanes / shape.padded_n, first = block * lanes % shape.padded_n;
      merge_weight_sums(partials + g * k * shape.padded_n + first, team, partial, shape.padded_n, k,
                        std::min(lanes, shape.n - first), dw + (g * shape.n + first) * k);
    }
  }
  if (d_rule) merge_rule_sums(memory, team, padded_channels, channels, d_rule);
}

}  // namespace cpu
