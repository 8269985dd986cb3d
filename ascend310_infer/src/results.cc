#include "inc/results.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>
#include <system_error>

#include "inc/errors.h"
#include "inc/files.h"
#include "inc/text.h"

namespace fs = std::filesystem;

namespace infer {
namespace {

constexpr std::size_t kLongestName = 240;  // of the 255 bytes of a file name; the rest is for `_<output>.bin`
constexpr const char* kIndexName = "index.jsonl";

}  // namespace

std::string ResultNames::Next(const fs::path& image) {
  const std::string stem = image.stem().string().substr(0, kLongestName);
  std::string name = stem;
  for (int i = 2; !taken_.insert(name).second; ++i) {
    const std::string suffix = "~" + std::to_string(i);
    name = stem.substr(0, kLongestName - suffix.size()) + suffix;
  }
  return name;
}

ResultWriter::ResultWriter(fs::path folder) : folder_(std::move(folder)) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw Failure("cannot make the folder " + Printable(folder_.native()) + ": " + error.message());
  const bool is_empty = fs::is_empty(folder_, error);
  if (error) throw Failure("cannot read the folder " + Printable(folder_.native()) + ": " + error.message());
  if (!is_empty)
    throw UsageError("--result_path " + Printable(folder_.native()) + " is not empty: name another, or empty it");
}

void ResultWriter::Write(const std::string& name, std::size_t output, std::string_view bytes) const {
  WriteFile(folder_ / (name + "_" + std::to_string(output) + ".bin"), bytes);
}

void ResultWriter::Finish(const std::vector<IndexEntry>& entries) const {
  std::string text;
  for (const IndexEntry& entry : entries) {
    const bool is_good = entry.error.empty();
    text += "{\"image\": " + JsonQuoted(entry.image) + (is_good ? ", \"result\": " : ", \"error\": ") +
            JsonQuoted(is_good ? entry.result : entry.error) + "}\n";
  }
  const fs::path unfinished = folder_ / (std::string(".") + kIndexName);
  WriteFile(unfinished, text);
  std::error_code error;
  fs::rename(unfinished, folder_ / kIndexName, error);
  if (error) throw Failure("cannot rename " + Printable(unfinished.native()) + ": " + error.message());
}

Latency Summarize(std::vector<double> milliseconds) {
  if (milliseconds.empty()) return {};
  std::sort(milliseconds.begin(), milliseconds.end());
  const auto count = static_cast<double>(milliseconds.size());
  const auto percentile = [&](double percent) {
    const double rank = std::ceil(percent / 100 * count);
    return milliseconds[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
  };
  const double total = std::accumulate(milliseconds.begin(), milliseconds.end(), 0.0);
  return {total / count, percentile(50), percentile(90), percentile(99), milliseconds.back()};
}

std::string UpstreamTimeLine(double milliseconds_per_image, std::size_t images) {
  std::ostringstream line;
  line << "NN inference cost average time: " << milliseconds_per_image << " ms of infer_count " << images;
  return line.str();
}

}  // namespace infer
