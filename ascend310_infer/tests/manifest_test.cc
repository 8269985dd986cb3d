#include "inc/manifest.h"

#include <gtest/gtest.h>

#include "inc/errors.h"
#include "inc/sha256.h"

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
}

TEST(Manifest, RefusesWhatHasChangedSinceItWasSealed) {
  const std::string body = kGood.substr(0, kGood.size() - 1);
  const std::string sealed = body + ",\n \"seal\": \"" + Sha256(body) + "\"\n}\n";
  EXPECT_EQ(ParseManifest(sealed, "net.mindir").sha256, "ab");
  for (const char* digit : {"64", "73", "0.2", "ab"}) {
    std::string changed = sealed;
    ++changed[changed.find(digit)];
    EXPECT_THROW(ParseManifest(changed, "net.mindir"), UsageError) << digit;
  }
}

TEST(Manifest, RefusesWhatItCannotFollow) {
  EXPECT_THROW(ParseManifest(kGood, "unknown.mindir"), UsageError);
  EXPECT_THROW(ParseManifest(Replaced("\"bicubic\"", "\"nearest\""), "net.mindir"), UsageError);
  EXPECT_THROW(ParseManifest(Replaced("\"pil\"", "\"cv\""), "net.mindir"), UsageError);
  EXPECT_THROW(ParseManifest(Replaced("73", "63"), "net.mindir"), UsageError);
  EXPECT_THROW(ParseManifest(Replaced("73", "1e9"), "net.mindir"), UsageError);
  EXPECT_THROW(ParseManifest(Replaced("[1, 2, 3]", "[1, 2]"), "net.mindir"), UsageError);
  EXPECT_THROW(ParseManifest(Replaced("[1, 2, 3]", "[1, 0, 3]"), "net.mindir"), UsageError);
  EXPECT_THROW(ParseManifest("[]", "net.mindir"), UsageError);
}

std::string Refusal(const std::string& text) {
  try {
    ParseManifest(text, "net.mindir");
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(Manifest, NamesTheValueOfTheWrongKind) {
  EXPECT_EQ(Refusal(Replaced("64", "\"large\"")), "image_size must be a number");
  EXPECT_EQ(Refusal(Replaced("64", "true")), "image_size must be a number");
  EXPECT_EQ(Refusal(Replaced("64", "0.5")), "image_size must be a whole number");
  EXPECT_EQ(Refusal(Replaced("\"resize\"", "\"size\"")), "resize is missing");
  EXPECT_EQ(Refusal(Replaced("\"pil\"", "null")), "resize_kernel must be a string");
  EXPECT_EQ(Refusal(Replaced("[0.1, 0.2, 0.3]", "0.1")), "mean must be a list");
  EXPECT_EQ(Refusal(Replaced("0.2", "[]")), "mean must be a number");
  EXPECT_EQ(Refusal(Replaced("pil", "a\\nb")), "resize_kernel must be mindspore or pil, not \"a\\nb\"");
  EXPECT_EQ(Refusal("3"), "what holds preprocessing must be an object");
}

TEST(Manifest, SaysInOneLineWhereTheTextStopsBeingJson) {
  for (std::size_t length = 0; length < kGood.size(); ++length) {
    const std::string said = Refusal(kGood.substr(0, length));
    EXPECT_EQ(said.rfind("not JSON at byte " + std::to_string(length) + ": ", 0), 0U) << said;
  }
  const std::string start = "{\"a\":";
  for (const char* value : {"[1,]",
                            "{\"a\":1,}",
                            "{\"a\" 1}",
                            "{a:1}",
                            "[1 2]",
                            "nul",
                            "inf",
                            "nan",
                            "+1",
                            "'a'",
                            "\"\\x\"",
                            "\"\\u12\"",
                            "\"\\ud800\"",
                            "\"\\ud800\\u0041\"",
                            "\"\n\"",
                            "\"\xFF\"",
                            "1 2",
                            "1e999",
                            "{\"b\":1,\"b\":2}",
                            "1} \n{"}) {
    const std::string said = Refusal(start + value + "}");
    EXPECT_EQ(said.rfind("not JSON", 0), 0U) << value << said;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  }
  EXPECT_EQ(Refusal(start + "1]").rfind("not JSON at byte 6: ", 0), 0U);
  EXPECT_EQ(Refusal(std::string(100000, '[')).rfind("not JSON at byte 100000: ", 0), 0U);
}

TEST(Manifest, SurvivesFlippedBytes) {
  std::uint32_t random = 1;
  for (int trial = 0; trial < 1000; ++trial) {
    std::string bad = kGood;
    for (int flips = 0; flips < 3; ++flips) {
      random = random * 1664525U + 1013904223U;
      bad[(random >> 8U) % bad.size()] ^= static_cast<char>(1U << (random & 7U));
    }
    EXPECT_EQ(Refusal(bad).find('\n'), std::string::npos) << bad;
  }
}

TEST(ManifestBeside, ReplacesTheSuffix) { EXPECT_EQ(ManifestBeside("a/net.mindir"), "a/net.manifest.json"); }

}  // namespace
}  // namespace infer
