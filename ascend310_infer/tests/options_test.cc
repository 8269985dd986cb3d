#include "inc/options.h"

#include <gtest/gtest.h>

#include "inc/errors.h"

namespace infer {
namespace {

TEST(Options, TakesBothSpellings) {
  const Options options = ParseOptions({"--mindir_path=a=b.mindir", "--dataset_path", "images", "--device_type",
                                        "Ascend310", "--device_id=3", "--batch_size", "8", "--threads", "2"});
  EXPECT_EQ(options.mindir_path, "a=b.mindir");
  EXPECT_EQ(options.dataset_path, "images");
  EXPECT_EQ(options.device, Device::kAscend310);
  EXPECT_EQ(options.device_id, 3);
  EXPECT_EQ(options.batch_size, 8);
  EXPECT_EQ(options.threads, 2);
  EXPECT_EQ(options.result_path, "result_Files");
}

TEST(Options, UsesEveryCpuWithoutThreads) {
  EXPECT_GE(ParseOptions({"--model_path", "m", "--dataset_path", "d"}).threads, 1);
}

TEST(Options, RefusesWhatItDoesNotUnderstand) {
  const std::vector<std::string> good = {"--mindir_path", "m", "--dataset_path", "d"};
  const std::vector<std::vector<std::string>> bad = {
      {"--mindir", "m"},       {"stray"},          {"--threads", "0"},       {"--threads", "two"},
      {"--batch_size", "4x"},  {"--device_id=-1"}, {"--device_type", "TPU"}, {"--threads"},
      {"--mindir_path", "m2"}, {"--batch_size="},  {"--benchmark", "1e3"},   {"--max_image_pixels", "99999999999"}};
  for (const std::vector<std::string>& extra : bad) {
    std::vector<std::string> arguments = good;
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    EXPECT_THROW(ParseOptions(arguments), UsageError) << extra.front();
  }
  EXPECT_THROW(ParseOptions({}), UsageError);
  EXPECT_THROW(ParseOptions({"--mindir_path", "m"}), UsageError);
}

TEST(Options, HelpAndVersionNeedNothingElse) {
  EXPECT_TRUE(ParseOptions({"--help"}).help);
  EXPECT_TRUE(ParseOptions({"--version"}).version);
  for (const char* key : {"mindir_path", "dataset_path", "device_type", "device_id", "batch_size", "threads",
                          "result_path", "manifest", "benchmark", "max_image_pixels"}) {
    EXPECT_NE(Usage().find(std::string("--") + key), std::string::npos) << key;
  }
}

}  // namespace
}  // namespace infer
