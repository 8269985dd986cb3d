#include "inc/pipeline.h"

#include <gtest/gtest.h>

#include <sstream>

#include "inc/errors.h"
#include "inc/files.h"
#include "tests/support.h"

namespace fs = std::filesystem;

namespace infer {
namespace {

using testing::FakeModel;
using testing::Jpeg;
using testing::Png;
using testing::TemporaryFolder;

constexpr int kSize = 8;

Image Flat(int value) {
  return {kSize, kSize, std::vector<std::uint8_t>(kSize * kSize * 3, static_cast<std::uint8_t>(value))};
}

Job MakeJob(const fs::path& folder, int threads) {
  Job job;
  job.folder = folder;
  job.images = FindImages(folder).paths;
  job.preprocessing.image_size = kSize;
  job.preprocessing.resize = kSize;
  job.threads = threads;
  job.max_image_pixels = 10000;
  return job;
}

TEST(PredictAll, EveryImageGetsItsOwnRowForAnyBatchAndThreads) {
  const TemporaryFolder folder;
  for (int i = 0; i < 23; ++i)
    folder.Add("images/" + std::to_string(i % 3) + "/" + std::to_string(i) + ".png", Png(Flat(i * 10)));
  int run = 0;
  for (const std::size_t batch : {1U, 4U, 23U, 50U}) {
    for (const int threads : {1, 3}) {
      const fs::path results = folder.Path() / ("results" + std::to_string(run++));
      FakeModel model(batch, kSize);
      std::ostringstream log;
      const Report report = PredictAll(MakeJob(folder.Path() / "images", threads), &model, ResultWriter(results), &log);
      EXPECT_EQ(report.predicted, 23U);
      EXPECT_EQ(static_cast<std::size_t>(model.calls), (23 + batch - 1) / batch);
      EXPECT_EQ(report.predict_ms.size(), static_cast<std::size_t>(model.calls));
      for (int i = 0; i < 23; ++i) {
        const std::string row = ReadFile(results / (std::to_string(i) + "_0.bin"), 10);
        EXPECT_EQ(row, std::string(1, static_cast<char>(i * 10)));
        EXPECT_EQ(ReadFile(results / (std::to_string(i) + "_1.bin"), 10).size(), 2U);
      }
      EXPECT_TRUE(log.str().empty());
    }
  }
}

TEST(PredictAll, NamesEachBadImageAndPredictsTheGoodOnes) {
  const TemporaryFolder folder;
  const Image huge{200, 200, std::vector<std::uint8_t>(200 * 200 * 3, 1)};
  folder.Add("images/good.png", Png(Flat(1)));
  folder.Add("images/sub.jpg/good.JPG", Jpeg(Flat(2)));  // images in a folder with an image's name
  folder.Add("images/x/good.jpg", Jpeg(Flat(2)));
  folder.Add("images/x/empty.jpg", "");
  folder.Add("images/x/huge.png", Png(huge));
  folder.Add("images/x/odd\nname $(x).png", Png(Flat(3)));
  folder.Add("images/x/text.jpeg", "hello");
  folder.Add("images/x/truncated.jpg", Jpeg(Flat(4)).substr(0, 100));
  folder.Add("images/x/animation.gif", "GIF89a");
  fs::create_symlink("nowhere", folder.Path() / "images/x/dangling.png");
  FakeModel model(2, kSize);
  std::ostringstream log;
  const fs::path results = folder.Path() / "results";
  const Report report = PredictAll(MakeJob(folder.Path() / "images", 2), &model, ResultWriter(results), &log);
  EXPECT_EQ(report.entries.size(), 9U);  // the loose good.png lies beside class folders
  EXPECT_EQ(report.predicted, 3U);
  for (const IndexEntry& entry : report.entries) {
    EXPECT_NE(entry.result.empty(), entry.error.empty()) << entry.image;
    if (entry.error.empty()) continue;
    EXPECT_NE(log.str().find("error: cannot read " + entry.image + ": "), std::string::npos) << entry.image;
  }
  EXPECT_TRUE(fs::exists(results / "good_0.bin"));
  EXPECT_TRUE(fs::exists(results / "good~2_0.bin"));
  EXPECT_TRUE(fs::exists(results / "odd\nname $(x)_0.bin"));
  EXPECT_TRUE(fs::exists(results / "index.jsonl"));
}

TEST(PredictAll, StopsAndLeavesNoIndexWhenAResultCannotBeWritten) {
  const TemporaryFolder folder;
  for (int i = 0; i < 40; ++i) folder.Add("images/" + std::to_string(i) + ".png", Png(Flat(i)));
  const ResultWriter writer(folder.Path() / "results");
  fs::create_symlink("/dev/full", folder.Path() / "results" / "7_0.bin");
  FakeModel model(1, kSize);
  std::ostringstream log;
  EXPECT_THROW(PredictAll(MakeJob(folder.Path() / "images", 2), &model, writer, &log), Failure);
  EXPECT_FALSE(fs::exists(folder.Path() / "results" / "index.jsonl"));
}

TEST(Benchmark, FillsABatchFromFewImages) {
  const TemporaryFolder folder;
  folder.Add("bad.png", "");
  folder.Add("good.png", Png(Flat(9)));
  FakeModel model(5, kSize);
  EXPECT_EQ(Benchmark(MakeJob(folder.Path(), 1), &model, 20).size(), 20U);
  EXPECT_EQ(model.calls, 22);
  const TemporaryFolder empty;
  empty.Add("bad.png", "");
  EXPECT_THROW(Benchmark(MakeJob(empty.Path(), 1), &model, 1), UsageError);
}

}  // namespace
}  // namespace infer
