// Reads, decodes and preprocesses images in several threads while the caller's thread predicts.
#ifndef ASCEND310_INFER_INC_PIPELINE_H_
#define ASCEND310_INFER_INC_PIPELINE_H_

#include <cstddef>
#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "inc/manifest.h"
#include "inc/predictor.h"
#include "inc/results.h"

namespace infer {

struct Job {
  std::filesystem::path folder;
  std::vector<std::filesystem::path> images;  // relative to the folder
  Preprocessing preprocessing;
  int threads = 1;
  std::size_t max_image_pixels = 0;
};

struct Report {
  std::vector<IndexEntry> entries;  // one per image, in the order of the job
  std::size_t predicted = 0;        // images with a result
  double decode_seconds = 0;        // summed over the threads: reading and decoding
  double preprocess_seconds = 0;    // summed over the threads: resizing, cropping, normalising
  std::vector<double> predict_ms;   // of each prediction of a batch
  double wall_seconds = 0;
};

// Predicts every image and writes its results, at most about two batches of images in memory. An image that
// cannot be read is named on `log` and in its entry. Throws Failure when the model or the disk fails.
Report PredictAll(const Job& job, Predictor* model, const ResultWriter& writer, std::ostream* log);

// Times `runs` predictions of one batch of the job's first readable images, after a tenth as many (at least one)
// that are not timed. Milliseconds per batch. Throws UsageError when no image can be read.
std::vector<double> Benchmark(const Job& job, Predictor* model, int runs);

}  // namespace infer

#endif  // ASCEND310_INFER_INC_PIPELINE_H_
