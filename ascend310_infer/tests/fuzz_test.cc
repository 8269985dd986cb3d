// What stands in a file, its reader understands or refuses by the one exception that its header names; under the
// sanitizers it reads no byte beyond. FUZZ_INPUTS says how many of each kind; the seed is fixed.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include "inc/errors.h"
#include "inc/image.h"
#include "inc/manifest.h"
#include "tests/support.h"

namespace infer {
namespace {

constexpr std::size_t kMaxPixels = 1U << 16U;

int Inputs() {
  const char* given = std::getenv("FUZZ_INPUTS");
  return given == nullptr ? 300 : std::stoi(given);
}

class Mutations {
 public:
  explicit Mutations(std::string good) : good_(std::move(good)) {}

  // The good file with bits flipped, cut off, with a piece put in or written over.
  std::string Next() {
    static constexpr std::array<std::string_view, 16> kPieces = {
        "null", "-1",   "1e999",          "NaN",  "\"\"",  "[]",   "{}", "[[[[[[[[[[[[[[[[",
        "\xff", "\0\0", "99999999999999", "true", "\\ud8", "\"\"", ",",  "\xff\xd8\xff\xda"};
    std::string content = good_;
    for (std::size_t count = 1 + Below(3); count > 0; --count) {
      const std::size_t place = Below(content.size() + 1);
      switch (Below(4)) {
        case 0:
          if (place < content.size())
            content[place] = static_cast<char>(static_cast<unsigned char>(content[place]) ^ (1U << Below(8)));
          break;
        case 1: content.resize(place); break;
        case 2: content.insert(place, kPieces.at(Below(kPieces.size()))); break;
        default:
          for (std::size_t i = place; i < std::min(content.size(), place + 4); ++i)
            content[i] = static_cast<char>(Below(256));
      }
    }
    return content;
  }

 private:
  std::size_t Below(std::size_t end) { return std::uniform_int_distribution<std::size_t>(0, end - 1)(random_); }

  std::string good_;
  std::mt19937 random_{7};
};

template <typename Refusal, typename Read>
void ExpectReadOrRefused(const std::string& good, Read read) {
  EXPECT_NO_THROW(read(good));
  Mutations mutations(good);
  int refused = 0;
  for (int i = 0; i < Inputs(); ++i) {
    const std::string content = mutations.Next();
    try {
      read(content);
    } catch (const Refusal&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 0);
}

void DecodeAny(const std::string& content) {
  const Image image = Decode(content, kMaxPixels);
  ASSERT_EQ(image.pixels.size(), static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height) * 3);
  ASSERT_LE(image.pixels.size(), kMaxPixels * 3);
}

TEST(Fuzz, Manifest) {
  const std::string good =
      R"({"files": [{"file": "net.mindir", "sha256": "ab"}], "classes": ["cat", "dog"], "preprocessing":
      {"image_size": 64, "resize": 73, "interpolation": "bicubic", "resize_kernel": "pil",
       "mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}})";
  ExpectReadOrRefused<UsageError>(good, [](const std::string& text) { ParseManifest(text, "net.mindir"); });
}

TEST(Fuzz, Png) { ExpectReadOrRefused<ImageError>(testing::Png(testing::Gradient(24, 20)), DecodeAny); }

TEST(Fuzz, Jpeg) { ExpectReadOrRefused<ImageError>(testing::Jpeg(testing::Gradient(24, 20)), DecodeAny); }

TEST(Fuzz, DeepJson) {
  EXPECT_THROW(ParseManifest(std::string(200000, '['), "net.mindir"), UsageError);
  std::string objects;
  for (int i = 0; i < 50000; ++i) objects += "{\"a\":";
  EXPECT_THROW(ParseManifest(objects, "net.mindir"), UsageError);
}

}  // namespace
}  // namespace infer
