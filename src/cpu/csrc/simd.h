// Vectors of floats in the compiler's own vector types: the same source becomes AVX-512, AVX2, SSE or NEON.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__)
#define NATIVE_LANES 16
#elif defined(__AVX__)
#define NATIVE_LANES 8
#else
#define NATIVE_LANES 4
#endif

// Floats in a vector, and vector registers that the micro-kernels may fill; set elsewhere only to test other machines.
#ifndef LANES
#define LANES NATIVE_LANES
#endif
#ifndef REGISTERS
#if defined(__AVX512F__) || defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif
#endif

#define INLINE inline __attribute__((always_inline))

namespace cpu {

using Index = std::ptrdiff_t;
constexpr Index lanes = LANES;

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef float LooseVec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef double WideVec __attribute__((vector_size(LANES * 8)));
typedef double LooseWideVec __attribute__((vector_size(LANES * 8), aligned(8), may_alias));

INLINE Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
INLINE void store(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }
INLINE Vec splat(float x) { return x - Vec{}; }  // not 0 + x, which would turn -0 into 0 and so costs an addition

// Keeps a loaded vector in a register: compilers would rather load it again with every use, and run out of load ports.
INLINE void keep(Vec& v) {
#if LANES > NATIVE_LANES
  (void)v;
#elif defined(__x86_64__)
  asm("" : "+v"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#else
  (void)v;
#endif
}

// The first n < lanes floats, the rest 0; nothing beyond them is touched.
[[gnu::noinline]] inline Vec load_part(const float* p, Index n) {
  Vec v = {};
  for (Index i = 0; i < n; ++i) v[i] = p[i];
  return v;
}

[[gnu::noinline]] inline void store_part(float* p, Vec v, Index n) {
  alignas(64) float part[lanes];
  store(part, v);
  for (Index i = 0; i < n; ++i) p[i] = part[i];
}

INLINE Vec load_some(const float* p, Index n) { return n >= lanes ? load(p) : load_part(p, n); }
INLINE void store_some(float* p, Vec v, Index n) { n >= lanes ? store(p, v) : store_part(p, v, n); }

// NaN in, NaN out: a comparison with NaN is false, so the value itself is taken.
INLINE Vec at_least(Vec v, Vec low) { return v < low ? low : v; }
INLINE Vec at_most(Vec v, Vec high) { return v > high ? high : v; }

// Asks for the cache line of an address that is read soon; it may lie beyond the data.
INLINE void fetch(const float* p) { __builtin_prefetch(p); }

INLINE void add_to(float* p, Vec v) { store(p, load(p) + v); }

// Adds float partial sums to double totals and clears them.
inline void flush(float* part, double* total, Index n) {
  for (Index i = 0; i < n; ++i) {
    total[i] += part[i];
    part[i] = 0;
  }
}

constexpr Index round_up(Index n, Index unit) { return (n + unit - 1) / unit * unit; }
constexpr Index divide_up(Index n, Index d) { return (n + d - 1) / d; }

}  // namespace cpu
