#include "inc/pipeline.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <optional>
#include <ostream>
#include <thread>

#include "inc/bounded_queue.h"
#include "inc/errors.h"
#include "inc/files.h"
#include "inc/preprocess.h"
#include "inc/text.h"

namespace infer {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxFileBytes = std::size_t{1} << 30U;
constexpr double kSecondsBetweenProgress = 5;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// One image on its way to the model.
struct Prepared {
  std::size_t index = 0;
  std::string row;    // the bytes of one row of the input
  std::string error;  // not empty: the image could not be read
  double decode_seconds = 0;
  double preprocess_seconds = 0;
};

Prepared Prepare(const Job& job, std::size_t index, const InputSpec& input) {
  Prepared item;
  item.index = index;
  try {
    const Clock::time_point start = Clock::now();
    const Image image = Decode(ReadFile(job.folder / job.images[index], kMaxFileBytes), job.max_image_pixels);
    item.decode_seconds = SecondsSince(start);
    const Clock::time_point decoded = Clock::now();
    const Image cropped = ResizeAndCrop(image, job.preprocessing);
    item.row.resize(input.RowBytes());
    if (input.is_bytes) {
      std::memcpy(item.row.data(), cropped.pixels.data(), item.row.size());
    } else {
      std::vector<float> values(item.row.size() / sizeof(float));
      NormalizeToChw(cropped, job.preprocessing, values.data());
      std::memcpy(item.row.data(), values.data(), item.row.size());
    }
    item.preprocess_seconds = SecondsSince(decoded);
  } catch (const std::exception& error) {  // also bad_alloc: it is this image that is too large
    item.error = error.what();
  }
  return item;
}

// The threads that prepare the images of a job, in no particular order. Ended and joined when it goes out of scope.
class Producers {
 public:
  Producers(const Job& job, const InputSpec& input)
      : job_(job), input_(input), queue_(input.batch + static_cast<std::size_t>(job.threads)),
        running_(std::max(1, job.threads)) {
    const int count = running_;
    threads_.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) threads_.emplace_back([this] { Work(); });
  }
  ~Producers() {
    queue_.Close();
    for (std::thread& thread : threads_) thread.join();
  }
  Producers(const Producers&) = delete;
  Producers& operator=(const Producers&) = delete;

  std::optional<Prepared> Next() { return queue_.Pop(); }

 private:
  void Work() {
    for (std::size_t index = next_++; index < job_.images.size(); index = next_++)
      if (!queue_.Push(Prepare(job_, index, input_))) return;
    if (--running_ == 0) queue_.Close();
  }

  const Job& job_;
  const InputSpec& input_;
  BoundedQueue<Prepared> queue_;
  std::atomic<std::size_t> next_{0};
  std::atomic<int> running_;
  std::vector<std::thread> threads_;
};

// Gathers rows into batches, predicts them and writes what comes out.
class Consumer {
 public:
  Consumer(const Job& job, Predictor* model, const ResultWriter& writer, Report* report)
      : job_(job), model_(model), writer_(writer), report_(report), batch_(model->Input().batch * RowBytes(), '\0') {}

  void Add(const Prepared& item) {
    std::memcpy(batch_.data() + pending_.size() * RowBytes(), item.row.data(), RowBytes());
    pending_.push_back(item.index);
    if (pending_.size() == model_->Input().batch) Flush();
  }

  // The last batch may be short; what then fills its end is predicted too and left out here.
  void Flush() {
    if (pending_.empty()) return;
    const Clock::time_point start = Clock::now();
    const std::vector<std::string_view> outputs = model_->Predict(batch_);
    report_->predict_ms.push_back(SecondsSince(start) * 1000);
    for (std::size_t row = 0; row < pending_.size(); ++row) {
      IndexEntry& entry = report_->entries[pending_[row]];
      entry.result = names_.Next(job_.images[pending_[row]]);
      for (std::size_t output = 0; output < outputs.size(); ++output) {
        const std::size_t length = outputs[output].size() / model_->Input().batch;
        writer_.Write(entry.result, output, outputs[output].substr(row * length, length));
      }
    }
    report_->predicted += pending_.size();
    pending_.clear();
  }

 private:
  [[nodiscard]] std::size_t RowBytes() const { return model_->Input().RowBytes(); }

  const Job& job_;
  Predictor* model_;
  const ResultWriter& writer_;
  Report* report_;
  std::string batch_;
  std::vector<std::size_t> pending_;
  ResultNames names_;
};

}  // namespace

Report PredictAll(const Job& job, Predictor* model, const ResultWriter& writer, std::ostream* log) {
  const Clock::time_point start = Clock::now();
  Report report;
  for (const std::filesystem::path& image : job.images) report.entries.push_back({image.native(), "", ""});
  Consumer consumer(job, model, writer, &report);
  {
    Producers producers(job, model->Input());
    Clock::time_point last_progress = start;
    std::size_t seen = 0;
    while (const std::optional<Prepared> item = producers.Next()) {
      ++seen;
      report.decode_seconds += item->decode_seconds;
      report.preprocess_seconds += item->preprocess_seconds;
      if (item->error.empty()) {
        consumer.Add(*item);
      } else {
        report.entries[item->index].error = item->error;
        *log << "error: cannot read " << Printable(job.images[item->index].native()) << ": " << item->error << '\n';
      }
      if (SecondsSince(last_progress) > kSecondsBetweenProgress) {
        last_progress = Clock::now();
        *log << seen << " of " << job.images.size() << " images" << std::endl;
      }
    }
  }
  consumer.Flush();
  writer.Finish(report.entries);
  report.wall_seconds = SecondsSince(start);
  return report;
}

std::vector<double> Benchmark(const Job& job, Predictor* model, int runs) {
  const InputSpec& input = model->Input();
  std::string batch;
  for (std::size_t i = 0; i < job.images.size() && batch.size() < input.batch * input.RowBytes(); ++i)
    batch += Prepare(job, i, input).row;
  if (batch.empty()) throw UsageError("none of the images can be read");
  const std::size_t first = batch.size();
  while (batch.size() < input.batch * input.RowBytes())  // fewer images than a batch holds: again from the first
    batch += batch.substr(batch.size() - first, input.RowBytes());
  for (int i = 0; i < std::max(1, runs / 10); ++i) model->Predict(batch);
  std::vector<double> milliseconds;
  for (int i = 0; i < runs; ++i) {
    const Clock::time_point start = Clock::now();
    model->Predict(batch);
    milliseconds.push_back(SecondsSince(start) * 1000);
  }
  return milliseconds;
}

}  // namespace infer
