// Matrix products on tiles of pixels: C[pixels, N] = A[pixels, K] B[K, N] with B packed, and dB += A^T G.
#pragma once

#include <utility>

#include "runtime.h"

namespace cpu {

// Lane j of the results: of a where bit S of j is clear (set), else of b where it is set, from the lane beside it.
template <std::size_t S, std::size_t... J>
INLINE Vec low_blocks(Vec a, Vec b, std::index_sequence<J...>) {
  return Vec{(J & S ? b[J ^ S] : a[J])...};
}
template <std::size_t S, std::size_t... J>
INLINE Vec high_blocks(Vec a, Vec b, std::index_sequence<J...>) {
  return Vec{(J & S ? b[J] : a[J ^ S])...};
}

// Transposes a square of vectors in registers: blocks of S = lanes / 2, then of half that, and so on.
template <std::size_t S = lanes / 2>
INLINE void transpose(Vec (&rows)[lanes]) {
  if constexpr (S > 0) {
    constexpr auto all = std::make_index_sequence<lanes>();
#pragma GCC unroll 16
    for (std::size_t i = 0; i < lanes; ++i)
      if (!(i & S)) {
        const Vec a = rows[i], b = rows[i + S];
        rows[i] = low_blocks<S>(a, b, all);
        rows[i + S] = high_blocks<S>(a, b, all);
      }
    transpose<S / 2>(rows);
  }
}

// Accumulators of a micro-kernel: `rows` pixels times `vectors` vectors of columns, as many as the registers hold
// beside the loaded row of B. At most 8 rows: more row pointers than that are spilled.
constexpr Index most_vectors = REGISTERS == 32 ? 4 : 3;
constexpr Index kernel_rows(Index vectors) {
  return REGISTERS == 32 ? (vectors == 4 ? 6 : 8) : (vectors == 3 ? 4 : vectors == 2 ? 6 : 8);
}
constexpr Index row_grain = 24;  // a multiple of every kernel_rows

// B cut into panels of one to `most_vectors` vectors, each stored [K][width], the last padded with zeros.
struct Panels {
  Index k, columns, vectors, count;

  Panels(Index k, Index columns)
      : k(k), columns(columns), vectors(divide_up(columns, lanes)), count(divide_up(vectors, most_vectors)) {}
  Index size() const { return k * vectors * lanes; }
  Index first(Index panel) const { return vectors * panel / count; }
  Index width(Index panel) const { return first(panel + 1) - first(panel); }

  // Packs one panel of B[r, c] = from[r * columns + c] into its place in `packed`.
  void pack(Index panel, const float* from, float* packed) const {
    const Index begin = first(panel) * lanes, end = first(panel + 1) * lanes;
    float* out = packed + begin * k;
    for (Index r = 0; r < k; ++r)
      for (Index c = begin; c < end; c += lanes, out += lanes)
        store(out, load_some(from + r * columns + c, columns - c));
  }

  // Packs one panel of B[r, c] = w[c * k + r] * scale[c], as the weights of a 1x1 convolution lie, to `out`.
  void pack_rows(Index panel, const float* w, const float* scale, float* out) const {
    const Index stride = width(panel) * lanes;
    for (Index v = first(panel); v < first(panel + 1); ++v, out += lanes) {
      const Index valid = std::min(lanes, columns - v * lanes);
      const float* from = w + v * lanes * k;
      float factor[lanes];
      for (Index i = 0; i < valid; ++i) factor[i] = scale ? scale[v * lanes + i] : 1.f;
      Index r = 0;
      for (; valid == lanes && r + lanes <= k; r += lanes) {
        Vec block[lanes];
#pragma GCC unroll 16
        for (Index i = 0; i < lanes; ++i) block[i] = load(from + i * k + r) * splat(factor[i]);
        transpose(block);
#pragma GCC unroll 16
        for (Index i = 0; i < lanes; ++i) store(out + (r + i) * stride, block[i]);
      }
      for (; r < k; ++r)
        for (Index i = 0; i < lanes; ++i) out[r * stride + i] = i < valid ? from[i * k + r] * factor[i] : 0.f;
    }
  }
};

// Where A[pixel, k] lies: at pixel * stride + k, or at pixel * stride + offset[k] (the taps of an image).
struct Rows {
  const float* data;
  Index stride;
  const Index* offset;
};

// Asks for memory that is wanted soon, with every step of a product; for epilogues that overload it.
template <class Epilogue>
INLINE void fetch_ahead(const Epilogue&, Index, Index) {}

template <bool OFFSETS, Index MR, Index NV, class Epilogue>
INLINE void product(const Rows& a, Index row, const float* b, Index k_size, Index column, Epilogue& epilogue) {
  Vec sum[MR][NV] = {};
  const float* data = a.data + row * a.stride;
  for (Index k = 0; k < k_size; ++k, b += NV * lanes) {
    Vec line[NV];
#pragma GCC unroll 8
    for (Index v = 0; v < NV; ++v) keep(line[v] = load(b + v * lanes));
    const float* at = data + (OFFSETS ? a.offset[k] : k);
    fetch_ahead(epilogue, row, k);
#pragma GCC unroll 8
    for (Index i = 0; i < MR; ++i) {
      const Vec x = splat(at[i * a.stride]);
#pragma GCC unroll 8
      for (Index v = 0; v < NV; ++v) sum[i][v] += x * line[v];
    }
  }
  epilogue(sum, row, column);
}

template <bool OFFSETS, Index MR, Index NV, class Epilogue>
inline void product_rows(const Rows& a, Index row, Index end, const float* b, Index k, Index column, Epilogue& out) {
  for (; row + MR <= end; row += MR) product<OFFSETS, MR, NV>(a, row, b, k, column, out);
  if constexpr (MR > 1) product_rows<OFFSETS, 1, NV>(a, row, end, b, k, column, out);
}

// Rows [0, rows) of A times one panel, packed at `b`. Epilogue: out(Vec (&sum)[MR][NV], first row, first column).
template <bool OFFSETS, class Epilogue>
inline void multiply_panel(const Rows& a, Index rows, const Panels& panels, Index panel, const float* b,
                           Epilogue& out) {
  const Index column = panels.first(panel) * lanes;
  switch (panels.width(panel)) {
    case 1: return product_rows<OFFSETS, kernel_rows(1), 1>(a, 0, rows, b, panels.k, column, out);
    case 2: return product_rows<OFFSETS, kernel_rows(2), 2>(a, 0, rows, b, panels.k, column, out);
    case 3: return product_rows<OFFSETS, kernel_rows(3), 3>(a, 0, rows, b, panels.k, column, out);
    default:
      if constexpr (most_vectors == 4) product_rows<OFFSETS, kernel_rows(4), 4>(a, 0, rows, b, panels.k, column, out);
  }
}

// The same times panels [begin, end) of all that lie one after the other in `packed`.
template <bool OFFSETS, class Epilogue>
inline void multiply(const Rows& a, Index rows, const Panels& panels, const float* packed, Index begin, Index end,
                     Epilogue& out) {
  for (Index p = begin; p < end; ++p)
    multiply_panel<OFFSETS>(a, rows, panels, p, packed + panels.first(p) * lanes * panels.k, out);
}

// out = row 0 of A times all of B, in the padded layout; not fast.
inline void multiply_first_row(const Rows& a, const Panels& panels, const float* packed, float* out) {
  std::memset(out, 0, panels.vectors * lanes * sizeof(float));
  for (Index p = 0; p < panels.count; ++p) {
    const float* b = packed + panels.first(p) * lanes * panels.k;
    float* to = out + panels.first(p) * lanes;
    for (Index k = 0; k < panels.k; ++k)
      for (Index v = 0; v < panels.width(p); ++v, b += lanes)
        add_to(to + v * lanes, splat(a.data[a.offset ? a.offset[k] : k]) * load(b));
  }
}

template <bool OFFSETS, Index MK, Index NV>
INLINE void outer(const Rows& a, Index k, const float* g, Index rows, float* sum, Index sum_stride) {
  Vec part[MK][NV] = {};
  const float* at[MK];
#pragma GCC unroll 8
  for (Index i = 0; i < MK; ++i) {
    at[i] = a.data + (OFFSETS ? a.offset[k + i] : k + i);
    // The sums of the next rows, which nothing has touched since the last tile.
    for (Index v = 0; v < NV; ++v) fetch(sum + (k + MK + i) * sum_stride + v * lanes);
  }
  for (Index r = 0; r < rows; ++r, g += NV * lanes) {
    Vec line[NV];
#pragma GCC unroll 8
    for (Index v = 0; v < NV; ++v) keep(line[v] = load(g + v * lanes));
#pragma GCC unroll 8
    for (Index i = 0; i < MK; ++i) {
      const Vec x = splat(OFFSETS ? at[i][r * a.stride] : at[0][r * a.stride + i]);
#pragma GCC unroll 8
      for (Index v = 0; v < NV; ++v) part[i][v] += x * line[v];
    }
  }
  for (Index i = 0; i < MK; ++i)
    for (Index v = 0; v < NV; ++v) add_to(sum + (k + i) * sum_stride + v * lanes, part[i][v]);
}

template <bool OFFSETS, Index MK, Index NV>
inline void outer_rows(const Rows& a, Index k, Index k_end, const float* g, Index rows, float* sum, Index sum_stride) {
  for (; k + MK <= k_end; k += MK) outer<OFFSETS, MK, NV>(a, k, g, rows, sum, sum_stride);
  if constexpr (MK > 1) outer_rows<OFFSETS, 1, NV>(a, k, k_end, g, rows, sum, sum_stride);
}

// One panel of columns: copied first, so that its rows lie side by side in the first-level cache while all k pass by.
template <bool OFFSETS, Index NV>
inline void outer_panel(const Rows& a, Index k, const float* g, Index g_stride, Index rows, float* panel, float* sum,
                        Index sum_stride) {
  for (Index r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (Index v = 0; v < NV; ++v) store(panel + (r * NV + v) * lanes, load(g + r * g_stride + v * lanes));
  outer_rows<OFFSETS, kernel_rows(NV), NV>(a, 0, k, panel, rows, sum, sum_stride);
}

// sum[k, n] += sum over pixels of A[pixel, k] G[pixel, n]; the columns of G and sum are padded to whole vectors.
// `panel` is memory for rows * most_vectors vectors.
template <bool OFFSETS>
inline void accumulate_outer(const Rows& a, Index k, const float* g, Index g_stride, Index columns, Index rows,
                             float* panel, float* sum, Index sum_stride) {
  const Panels panels(rows, columns);
  for (Index p = 0; p < panels.count; ++p) {
    const Index column = panels.first(p) * lanes;
    const float* from = g + column;
    float* to = sum + column;
    switch (panels.width(p)) {
      case 1: outer_panel<OFFSETS, 1>(a, k, from, g_stride, rows, panel, to, sum_stride); break;
      case 2: outer_panel<OFFSETS, 2>(a, k, from, g_stride, rows, panel, to, sum_stride); break;
      case 3: outer_panel<OFFSETS, 3>(a, k, from, g_stride, rows, panel, to, sum_stride); break;
      default:
        if constexpr (most_vectors == 4) outer_panel<OFFSETS, 4>(a, k, from, g_stride, rows, panel, to, sum_stride);
    }
  }
}

}  // namespace cpu
