#include "inc/manifest.h"

#include <gtest/gtest.h>

#include "inc/errors.h"

namespace infer {
namespace {

const std::string kGood = R"({
  "files": [{"file": "other.onnx", "sha256": "00"}, {"file": "net.mindir", "sha256": "ab"}],
  "preprocessing": {"image_size": 64, "resize": 73, "interpolation": "bicubic", "resize_kernel": "pil",
                    "mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]},
  "classes": ["cat", "dog"]})";

std::string Replaced(const std::string& what, const std::string& with) {
  std::string text = kGood;
  return text.replace(text.find(what), what.size(), with);
}

TEST(Manifest, ReadsTheEntryOfTheModel) {
  const Manifest manifest = ParseManifest(kGood, "net.mindir");
  EXPECT_EQ(manifest.sha256, "ab");
  EXPECT_EQ(manifest.preprocessing.image_size, 64);
  EXPECT_EQ(manifest.preprocessing.resize, 73);
  EXPECT_EQ(manifest.preprocessing.interpolation, Interpolation::kBicubic);
  EXPECT_EQ(manifest.preprocessing.kernel, ResizeKernel::kPil);
  EXPECT_EQ(manifest.preprocessing.mean[1], 0.2);
  EXPECT_EQ(manifest.preprocessing.std[2], 3);
  EXPECT_EQ(manifest.classes, (std::vector<std::string>{"cat", "dog"}));
}

TEST(Manifest, RefusesWhatItCannotFollow) {
  EXPECT_THROW(ParseManifest(kGood, "unknown.mindir"), UsageError);
  EXPECT_THROW(ParseManifest(Replaced("\"bicubic\"", "\"nearest\""), "net.mindir"), UsageError);
  EXPECT_THROW(ParseManifest(Replaced("\"pil\"", "\"cv\""), "net.mindir"), UsageError);
  EXPECT_THROW(ParseManifest(Replaced("73", "63"), "net.mindir"), UsageError);
  EXPECT_THROW(ParseManifest(Replaced("73", "1e9"), "net.mindir"), UsageError);
  EXPECT_THROW(ParseManifest(Replaced("[1, 2, 3]", "[1, 2]"), "net.mindir"), UsageError);
  EXPECT_THROW(ParseManifest(Replaced("[1, 2, 3]", "[1, 0, 3]"), "net.mindir"), UsageError);
  EXPECT_THROW(ParseManifest(Replaced("\"classes\"", "\"labels\""), "net.mindir"), UsageError);
  EXPECT_THROW(ParseManifest("[]", "net.mindir"), UsageError);
}

TEST(ManifestBeside, ReplacesTheSuffix) { EXPECT_EQ(ManifestBeside("a/net.mindir"), "a/net.manifest.json"); }

}  // namespace
}  // namespace infer
