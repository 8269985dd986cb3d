#include "inc/results.h"

#include <gtest/gtest.h>

#include "inc/errors.h"
#include "inc/files.h"
#include "tests/support.h"

namespace infer {
namespace {

using testing::TemporaryFolder;

TEST(ResultNames, KeepsImagesOfOneNameApart) {
  ResultNames names;
  EXPECT_EQ(names.Next("a/cat.jpg"), "cat");
  EXPECT_EQ(names.Next("b/cat.png"), "cat~2");
  EXPECT_EQ(names.Next("c/cat~2.png"), "cat~2~2");
  EXPECT_EQ(names.Next("two.dots.jpg"), "two.dots");
  EXPECT_EQ(names.Next("two.other.jpg"), "two.other");
}

TEST(ResultNames, LeavesRoomInALongName) {
  ResultNames names;
  const std::string stem(251, 'x');
  const std::string first = names.Next(stem + ".jpg");
  const std::string second = names.Next(stem + ".png");
  EXPECT_NE(first, second);
  EXPECT_LE(first.size() + std::string("_0.bin").size(), 255U);
  EXPECT_LE(second.size() + std::string("_0.bin").size(), 255U);
}

TEST(ResultWriter, WritesResultsAndAnIndex) {
  const TemporaryFolder folder;
  const ResultWriter writer(folder.Path() / "results");
  writer.Write("cat", 0, "12345678");
  writer.Finish({{"a/c\"at\xFF.jpg", "cat", ""}, {"bad\n.jpg", "", "it is empty"}});
  EXPECT_EQ(ReadFile(folder.Path() / "results" / "cat_0.bin", 100), "12345678");
  EXPECT_EQ(ReadFile(folder.Path() / "results" / "index.jsonl", 1000),
            "{\"image\": \"a/c\\\"at\\udcff.jpg\", \"result\": \"cat\"}\n"
            "{\"image\": \"bad\\n.jpg\", \"error\": \"it is empty\"}\n");
}

TEST(ResultWriter, RefusesAFolderThatHoldsSomething) {
  const TemporaryFolder folder;
  folder.Add("old_0.bin");
  EXPECT_THROW(ResultWriter{folder.Path()}, UsageError);
  EXPECT_THROW(ResultWriter{folder.Path() / "old_0.bin" / "below"}, Failure);
}

TEST(Summarize, GivesNearestRanks) {
  const Latency latency = Summarize({5, 1, 2, 4, 3});
  EXPECT_EQ(latency.mean, 3);
  EXPECT_EQ(latency.p50, 3);
  EXPECT_EQ(latency.p90, 5);
  EXPECT_EQ(latency.max, 5);
  EXPECT_EQ(Summarize({}).max, 0);
  EXPECT_EQ(Summarize({7}).p99, 7);
}

TEST(UpstreamTimeLine, ReadsAsUpstreamWroteIt) {
  EXPECT_EQ(UpstreamTimeLine(1.5, 360), "NN inference cost average time: 1.5 ms of infer_count 360");
}

}  // namespace
}  // namespace infer
