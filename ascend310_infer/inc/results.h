// The result folder and the summary of times, in upstream's layout.
#ifndef ASCEND310_INFER_INC_RESULTS_H_
#define ASCEND310_INFER_INC_RESULTS_H_

#include <cstddef>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace infer {

// Names results after images, no two alike: `a/cat.jpg` becomes `cat`, a further `b/cat.png` becomes `cat~2`.
class ResultNames {
 public:
  // Cuts the name so that it stays a valid file name with `_<output>.bin` behind it.
  std::string Next(const std::filesystem::path& image);

 private:
  std::set<std::string> taken_;
};

// One line of index.jsonl: an image, and either the name of its results or why there are none.
struct IndexEntry {
  std::string image;   // path inside the dataset folder
  std::string result;  // `<result>_<output>.bin`
  std::string error;   // not empty: the image could not be read
};

// Writes results as they come; Finish() adds the index, whose presence says that the set is whole.
class ResultWriter {
 public:
  // Creates the folder. Throws UsageError when it holds anything: results of two runs must not mix.
  explicit ResultWriter(std::filesystem::path folder);

  // Writes `<name>_<output>.bin`; Failure when the disk does not take it.
  void Write(const std::string& name, std::size_t output, std::string_view bytes) const;
  void Finish(const std::vector<IndexEntry>& entries) const;

 private:
  std::filesystem::path folder_;
};

// Durations in milliseconds.
struct Latency {
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};

// Nearest-rank percentiles; all zero for no sample.
Latency Summarize(std::vector<double> milliseconds);

// `NN inference cost average time: X ms of infer_count N`, as upstream wrote it, per image.
std::string UpstreamTimeLine(double milliseconds_per_image, std::size_t images);

}  // namespace infer

#endif  // ASCEND310_INFER_INC_RESULTS_H_
