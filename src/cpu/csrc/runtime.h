// What every operator shares: the C interface of mindspore.ops.Custom(func_type="aot"), threads, scratch memory.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <new>
#include <thread>
#include <type_traits>

#include "profile.h"
#include "simd.h"

namespace cpu {

// A float32 array of the framework's.
struct Tensor {
  float* data;
  const std::int64_t* shape;
  int rank;

  operator float*() const { return data; }
  Index dim(int d) const { return shape[d]; }
  Index size() const {
    Index n = 1;
    for (int d = 0; d < rank; ++d) n *= shape[d];
    return n;
  }
  int number() const { return static_cast<int>(data[0]); }  // of a setting
};

// Inputs, then outputs, as the framework hands them over.
struct Arguments {
  int count;
  void** data;
  int* ndims;
  std::int64_t** shapes;

  Tensor operator[](Index i) const { return {static_cast<float*>(data[i]), shapes[i], ndims[i]}; }
  // A struct of Tensors and nothing else, filled in order.
  template <class Named>
  Named as() const {
    static_assert(std::is_trivially_copyable_v<Named> && sizeof(Named) % sizeof(Tensor) == 0);
    Tensor all[sizeof(Named) / sizeof(Tensor)];
    for (std::size_t i = 0; i < std::size(all); ++i) all[i] = (*this)[i];
    Named named;
    std::memcpy(&named, all, sizeof(named));
    return named;
  }
};
template <>
inline Arguments Arguments::as() const {
  return *this;
}

// Defines `extern "C" int NAME(...)`; its body sees `args`, a struct of that type: the arguments by name, or Arguments
// where they are lists. The framework reports status 1, a failed allocation.
#define OPERATOR_OF(TYPE, NAME)                                                                                \
  static void NAME##_body(const TYPE& args);                                                                   \
  extern "C" int NAME(int count, void** data, int* ndims, std::int64_t** shapes, const char**, void*, void*) { \
    PROFILED(#NAME, count, ndims, shapes)                                                                      \
    try {                                                                                                      \
      NAME##_body(cpu::Arguments{count, data, ndims, shapes}.as<TYPE>());                                      \
    } catch (const std::bad_alloc&) {                                                                          \
      return 1;                                                                                                \
    }                                                                                                          \
    return 0;                                                                                                  \
  }                                                                                                            \
  static void NAME##_body(const TYPE& args)

// The same with the names of the arguments in order, inputs before outputs.
#define OPERATOR(NAME, ...)  \
  namespace {                \
  struct NAME##_arguments {  \
    cpu::Tensor __VA_ARGS__; \
  };                         \
  }                          \
  OPERATOR_OF(NAME##_arguments, NAME)

// Scratch of one operator call. The memory stays with the calling thread for the next call: fresh pages are dear
// (about 5 GB/s to touch them). Everything is taken before the parallel region starts.
class Scratch {
 public:
  template <class T>
  T* take(Index n) {
    const std::size_t bytes = round_up(n * static_cast<Index>(sizeof(T)), 64) + 64;
    Block& block = blocks()[used_++];
    if (block.bytes < bytes) {
      std::free(block.memory);
      block.bytes = 0;
      block.memory = std::aligned_alloc(64, bytes);
      if (!block.memory) throw std::bad_alloc();
      block.bytes = bytes;
    }
    return static_cast<T*>(block.memory);
  }

 private:
  struct Block {
    void* memory = nullptr;
    std::size_t bytes = 0;
  };
  struct Blocks {
    Block block[24];
    Block& operator[](int i) {
      if (i >= 24) throw std::bad_alloc();
      return block[i];
    }
    ~Blocks() {
      for (Block& b : block) std::free(b.memory);
    }
  };
  static Blocks& blocks() {
    static thread_local Blocks mine;
    return mine;
  }
  int used_ = 0;
};

struct Range {
  Index begin, end;
};

// Part `i` of `n` items cut into `parts` contiguous ranges at multiples of `grain`: fixed, so sums repeat bit for bit.
inline Range part_of(Index n, Index grain, Index i, Index parts) {
  const Index units = divide_up(n, grain);
  return {std::min(n, units * i / parts * grain), std::min(n, units * (i + 1) / parts * grain)};
}

inline Index threads() { return omp_get_max_threads(); }

// Where the threads of a team wait for each other many times in a call: some 50 us in a loop, which beats the time that
// waking a sleeping thread takes, then by giving the core away, so that a busy machine loses no more than that.
class Barrier {
 public:
  explicit Barrier(Index team) : team_(team) {}
  void wait() {
    const unsigned round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == team_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int turn = 0; round_.load(std::memory_order_acquire) == round; ++turn)
      turn < 2000 ? pause() : std::this_thread::yield();
  }

 private:
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
  }
  const Index team_;
  std::atomic<Index> arrived_{0};
  std::atomic<unsigned> round_{0};
};

}  // namespace cpu
