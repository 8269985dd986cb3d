#include "inc/options.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <thread>

#include "inc/errors.h"

namespace infer {
namespace {

template <class T>
T Number(const std::string& key, const std::string& text, T smallest, T largest) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < smallest || value > largest) {
    throw UsageError("--" + key + " must be a whole number from " + std::to_string(smallest) + " to " +
                     std::to_string(largest) + ", not '" + text + "'");
  }
  return value;
}

Device DeviceOf(const std::string& text) {
  static const std::map<std::string, Device> devices = {{"CPU", Device::kCpu},
                                                        {"GPU", Device::kGpu},
                                                        {"Ascend", Device::kAscend310},
                                                        {"Ascend310", Device::kAscend310},
                                                        {"Ascend910", Device::kAscend910}};
  const auto found = devices.find(text);
  if (found == devices.end())
    throw UsageError("--device_type must be CPU, GPU, Ascend310 or Ascend910, not '" + text + "'");
  return found->second;
}

}  // namespace

Options ParseOptions(const std::vector<std::string>& arguments) {
  constexpr int kMany = 1 << 20;
  Options options;
  using Setter = std::function<void(const std::string&, const std::string&)>;
  const auto path = [](std::filesystem::path* target) {
    return [target](const std::string&, const std::string& text) { *target = text; };
  };
  const auto number = [](int* target, int smallest, int largest) {
    return [=](const std::string& key, const std::string& text) { *target = Number(key, text, smallest, largest); };
  };
  const std::map<std::string, Setter> setters = {
      {"mindir_path", path(&options.mindir_path)},
      {"model_path", path(&options.mindir_path)},
      {"dataset_path", path(&options.dataset_path)},
      {"result_path", path(&options.result_path)},
      {"manifest", path(&options.manifest)},
      {"device_type", [&](const std::string&, const std::string& text) { options.device = DeviceOf(text); }},
      {"device_id", number(&options.device_id, 0, kMany)},
      {"batch_size", number(&options.batch_size, 1, 4096)},
      {"threads", number(&options.threads, 1, 1024)},
      {"benchmark", number(&options.benchmark, 1, kMany)},
      {"max_image_pixels",
       [&](const std::string& key, const std::string& text) {
         options.max_image_pixels = Number<std::size_t>(key, text, 1, std::numeric_limits<std::uint32_t>::max());
       }},
  };
  std::set<std::string> given;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--help" || argument == "-h" || argument == "--version") {
      options.version = argument == "--version";
      options.help = !options.version;
      return options;
    }
    if (argument.rfind("--", 0) != 0) throw UsageError("'" + argument + "' is not an option; see --help");
    const std::size_t equals = argument.find('=');
    const std::string key = argument.substr(2, equals == std::string::npos ? equals : equals - 2);
    const auto setter = setters.find(key);
    if (setter == setters.end()) throw UsageError("there is no option --" + key + "; see --help");
    if (!given.insert(key).second) throw UsageError("--" + key + " is given twice");
    if (equals == std::string::npos && i + 1 == arguments.size()) throw UsageError("--" + key + " needs a value");
    setter->second(key, equals == std::string::npos ? arguments[++i] : argument.substr(equals + 1));
  }
  if (options.mindir_path.empty() || options.dataset_path.empty() || options.result_path.empty())
    throw UsageError("--mindir_path and --dataset_path are needed; see --help");
  if (options.threads == 0) options.threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  return options;
}

std::string Usage() {
  return R"(main --mindir_path FILE --dataset_path FOLDER [options]

Predicts every image of a folder (class folders at any depth, or images lying in it) with a MindIR model.

  --mindir_path FILE      the model (also --model_path)
  --dataset_path FOLDER   the images, JPEG or PNG
  --result_path FOLDER    one <image>_<output>.bin of float32 per image, and index.jsonl  (result_Files)
  --manifest FILE         preprocessing, classes and checksum  (<model>.manifest.json, where there is one)
  --device_type TYPE      CPU, GPU, Ascend310 or Ascend910  (CPU)
  --device_id N           (0)
  --batch_size N          (what the model was exported with, 1 when that is open)
  --threads N             for decoding and for a CPU's prediction  (the CPUs of this machine)
  --benchmark N           time N predictions of one batch instead of predicting the folder
  --max_image_pixels N    a larger image counts as unreadable  (89478485)
  --version               print the version of MindSpore Lite

Exit status: 0 done; 1 model, device or disk failed; 2 wrong command line or manifest; 3 done, but some images could
not be read (named on standard error and in index.jsonl); 4 this MindSpore Lite cannot build the model.
)";
}

}  // namespace infer
