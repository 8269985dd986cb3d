// Predicts the images of a folder with a MindIR model on Ascend, GPU or CPU.

#include <iomanip>
#include <iostream>
#include <numeric>
#include <sstream>
#include <system_error>

#include "inc/errors.h"
#include "inc/files.h"
#include "inc/lite_model.h"
#include "inc/manifest.h"
#include "inc/options.h"
#include "inc/pipeline.h"
#include "inc/sha256.h"
#include "inc/text.h"

namespace fs = std::filesystem;

namespace infer {
namespace {

constexpr std::size_t kMaxModelBytes = std::size_t{1} << 31U;
constexpr std::size_t kMaxManifestBytes = std::size_t{16} << 20U;

// The manifest that is named or lies beside the model, and, before anything parses the model, whether the
// model is the one it describes.
Manifest LoadManifest(const Options& options, std::string_view model_bytes) {
  const fs::path path = options.manifest.empty() ? ManifestBeside(options.mindir_path) : options.manifest;
  if (options.manifest.empty() && !fs::exists(path)) {
    std::cerr << "note: no " << Printable(path.native()) << ": ImageNet's preprocessing is assumed\n";
    return {};
  }
  try {
    Manifest manifest = ParseManifest(ReadFile(path, kMaxManifestBytes), options.mindir_path.filename().string());
    if (manifest.sha256 != Sha256(model_bytes))
      throw UsageError("the checksum of the model is another: export it again, or restore the file");
    return manifest;
  } catch (const UsageError& error) {
    throw UsageError("manifest " + Printable(path.native()) + ": " + error.what());
  }
}

// Without a manifest the size comes from the model, and the resize before the crop keeps ImageNet's 256 to 224.
Preprocessing PreprocessingFor(const Manifest& manifest, const InputSpec& input) {
  Preprocessing result = manifest.preprocessing;
  if (manifest.sha256.empty()) {
    result.resize = (input.image_size * result.resize + result.image_size / 2) / result.image_size;
    result.image_size = input.image_size;
  }
  if (result.image_size != input.image_size) {
    throw UsageError("the manifest's image_size is " + std::to_string(result.image_size) + ", the model takes " +
                     std::to_string(input.image_size));
  }
  return result;
}

std::string Describe(const Latency& latency) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(3) << "mean " << latency.mean << ", p50 " << latency.p50 << ", p90 "
       << latency.p90 << ", p99 " << latency.p99 << ", max " << latency.max;
  return text.str();
}

double Rate(std::size_t images, double seconds) { return seconds > 0 ? static_cast<double>(images) / seconds : 0; }

// Written beside the result folder, as upstream did, and to standard output.
void WriteTimes(const Options& options, const Report& report, std::size_t batch) {
  const double predict_ms = std::accumulate(report.predict_ms.begin(), report.predict_ms.end(), 0.0);
  const double per_image = report.predicted == 0 ? 0 : predict_ms / static_cast<double>(report.predicted);
  std::ostringstream text;
  text << UpstreamTimeLine(per_image, report.predicted) << '\n'
       << "predict, ms per batch of " << batch << ": " << Describe(Summarize(report.predict_ms)) << '\n'
       << std::fixed << std::setprecision(1) << "images/s: decode " << Rate(report.predicted, report.decode_seconds)
       << " and preprocess " << Rate(report.predicted, report.preprocess_seconds) << " (one thread), predict "
       << Rate(report.predicted, predict_ms / 1000) << ", all together " << Rate(report.predicted, report.wall_seconds)
       << '\n';
  const fs::path folder = fs::absolute(options.result_path).lexically_normal().parent_path() / "time_Result";
  std::error_code error;
  fs::create_directories(folder, error);  // WriteFile says what is wrong if it cannot be made
  WriteFile(folder / "test_perform_static.txt", text.str());
  std::cout << text.str();
}

int Run(const std::vector<std::string>& arguments) {
  const Options options = ParseOptions(arguments);
  if (options.help) {
    std::cout << Usage();
    return kExitDone;
  }
  if (options.version) {
    std::cout << LiteModel::LiteVersion() << '\n';
    return kExitDone;
  }
  const std::string mindir = ReadFile(options.mindir_path, kMaxModelBytes);
  const Manifest manifest = LoadManifest(options, mindir);
  ImageFiles images = FindImages(options.dataset_path);
  LiteModel model(mindir, options);
  const InputSpec& input = model.Input();
  const Job job{options.dataset_path, std::move(images.paths), PreprocessingFor(manifest, input), options.threads,
                options.max_image_pixels};
  std::cout << job.images.size() << " images (" << images.others << " other files left out), batches of " << input.batch
            << ", " << options.threads << " threads\n";
  if (options.benchmark > 0) {
    const Latency latency = Summarize(Benchmark(job, &model, options.benchmark));
    std::cout << "predict, ms per batch of " << input.batch << ": " << Describe(latency) << '\n';
    return kExitDone;
  }
  const Report report = PredictAll(job, &model, ResultWriter(options.result_path), &std::cerr);
  WriteTimes(options, report, input.batch);
  const std::size_t bad = job.images.size() - report.predicted;
  if (bad > 0) {
    std::cerr << "error: " << bad << " of " << job.images.size() << " images could not be read\n";
    return kExitBadImages;
  }
  return kExitDone;
}

}  // namespace
}  // namespace infer

int main(int argc, char** argv) {
  int status = infer::kExitFailed;
  try {
    status = infer::Run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const infer::UsageError& error) {
    std::cerr << "error: " << error.what() << '\n';
    status = infer::kExitUsage;
  } catch (const infer::ModelRefused& error) {
    std::cerr << "error: " << error.what() << '\n';
    status = infer::kExitNoModel;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
  }
  std::cout.flush();
  if (!std::cout) {
    std::cerr << "error: cannot write to standard output\n";
    status = infer::kExitFailed;
  }
  return status;
}
