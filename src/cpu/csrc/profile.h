// Builds with -DPROFILE keep the time of every operator call, by name and shapes: what `python -m bench.profile` reads.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace cpu {

#ifdef PROFILE

class Profile {
 public:
  // Times a call from its construction to its destruction.
  class Call {
   public:
    Call(const char* name, int count, const int* ndims, std::int64_t** shapes)
        : key_(name), start_(std::chrono::steady_clock::now()) {
      for (int i = 0; i < count; ++i) {
        key_ += ' ';
        for (int d = 0; d < ndims[i]; ++d) key_ += (d ? "x" : "") + std::to_string(shapes[i][d]);
      }
    }
    ~Call() {
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start_;
      calls()[key_].push_back(taken.count());
    }

   private:
    std::string key_;
    std::chrono::steady_clock::time_point start_;
  };

  // A line for each operator and its shapes: the seconds of its calls in order, a tab, name and shapes.
  static void write(const char* path) {
    std::FILE* file = std::fopen(path, "w");
    if (!file) return;
    for (const auto& [key, seconds] : calls()) {
      for (double s : seconds) std::fprintf(file, "%.6f ", s);
      std::fprintf(file, "\t%s\n", key.c_str());
    }
    std::fclose(file);
    calls().clear();
  }

 private:
  static std::map<std::string, std::vector<double>>& calls() {
    static std::map<std::string, std::vector<double>> all;
    return all;
  }
};

#define PROFILED(NAME, COUNT, NDIMS, SHAPES) const cpu::Profile::Call profiled_(NAME, COUNT, NDIMS, SHAPES);
#else
#define PROFILED(NAME, COUNT, NDIMS, SHAPES)
#endif

}  // namespace cpu
