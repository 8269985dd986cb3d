// The command line.
#ifndef ASCEND310_INFER_INC_OPTIONS_H_
#define ASCEND310_INFER_INC_OPTIONS_H_

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace infer {

enum class Device { kCpu, kGpu, kAscend310, kAscend910 };

struct Options {
  bool help = false;
  bool version = false;  // print the version of MindSpore Lite
  std::filesystem::path mindir_path;
  std::filesystem::path dataset_path;
  std::filesystem::path result_path = "result_Files";
  std::filesystem::path manifest;  // empty: beside the model, where there is one
  Device device = Device::kCpu;
  int device_id = 0;
  int batch_size = 0;  // 0: what the model was exported with, 1 when that is open
  int threads = 0;     // 0: the CPUs of this machine
  int benchmark = 0;   // timed predictions of one batch, instead of predicting the folder
  std::size_t max_image_pixels = 89478485;
};

// Takes `--key value` and `--key=value`. Throws UsageError for an unknown or repeated key, a value that does not
// fit, or a path that is missing.
Options ParseOptions(const std::vector<std::string>& arguments);

// What --help prints.
std::string Usage();

}  // namespace infer

#endif  // ASCEND310_INFER_INC_OPTIONS_H_
