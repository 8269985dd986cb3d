#include "inc/image.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "inc/errors.h"
#include "tests/support.h"

namespace infer {
namespace {

using testing::Gradient;
using testing::Jpeg;
using testing::Png;

constexpr std::size_t kEnough = 1U << 20U;

std::string Reason(std::string_view bytes, std::size_t max_pixels = kEnough) {
  try {
    Decode(bytes, max_pixels);
  } catch (const ImageError& error) {
    return error.what();
  }
  return "decoded";
}

TEST(Decode, PngIsExact) {
  const Image image = Gradient(17, 5);
  const Image decoded = Decode(Png(image), kEnough);
  EXPECT_EQ(decoded.width, 17);
  EXPECT_EQ(decoded.height, 5);
  EXPECT_EQ(decoded.pixels, image.pixels);
}

TEST(Decode, GrayIsRepeatedAndAlphaDropped) {
  EXPECT_EQ(Decode(Png(2, 1, 1, {10, 200}), kEnough).pixels, (std::vector<std::uint8_t>{10, 10, 10, 200, 200, 200}));
  EXPECT_EQ(Decode(Png(1, 1, 4, {1, 2, 3, 7}), kEnough).pixels, (std::vector<std::uint8_t>{1, 2, 3}));
}

TEST(Decode, JpegIsClose) {
  const Image image{8, 8, std::vector<std::uint8_t>(192, 100)};
  for (const std::uint8_t value : Decode(Jpeg(image), kEnough).pixels) EXPECT_NEAR(value, 100, 2);
  for (const std::uint8_t value :
       Decode(Jpeg(8, 8, 1, JCS_GRAYSCALE, std::vector<std::uint8_t>(64, 60)), kEnough).pixels) {
    EXPECT_NEAR(value, 60, 2);
  }
}

TEST(Decode, CmykBecomesRgb) {
  // libjpeg writes an Adobe marker with CMYK, so the four values are inverted ink: 255 is none.
  std::vector<std::uint8_t> ink;
  for (int i = 0; i < 64; ++i) ink.insert(ink.end(), {255, 128, 0, 255});
  const Image decoded = Decode(Jpeg(8, 8, 4, JCS_CMYK, ink), kEnough);
  ASSERT_EQ(decoded.pixels.size(), 192U);
  EXPECT_NEAR(decoded.pixels[0], 255, 2);
  EXPECT_NEAR(decoded.pixels[1], 128, 2);
  EXPECT_NEAR(decoded.pixels[2], 0, 2);
}

TEST(Decode, CmykWithoutAdobesMarkerIsInkAsInTraining) {
  std::vector<std::uint8_t> ink;
  for (int i = 0; i < 64; ++i) ink.insert(ink.end(), {0, 128, 255, 51});
  std::string file = Jpeg(8, 8, 4, JCS_CMYK, ink);
  const std::size_t marker = file.find("\xFF\xEE");
  ASSERT_NE(marker, std::string::npos);
  file.erase(marker, 2 + static_cast<std::size_t>(file[marker + 3]));  // its length is in two bytes, the first 0
  const Image decoded = Decode(file, kEnough);
  ASSERT_EQ(decoded.pixels.size(), 192U);
  EXPECT_NEAR(decoded.pixels[0], 204, 2);  // black of 51 leaves four fifths
  EXPECT_NEAR(decoded.pixels[1], 102, 2);
  EXPECT_NEAR(decoded.pixels[2], 0, 2);
}

TEST(Decode, SaysWhatIsWrong) {
  EXPECT_EQ(Reason(""), "it is empty");
  EXPECT_EQ(Reason("GIF89a"), "it is neither JPEG nor PNG");
  EXPECT_EQ(Reason("RIFF"), "it is neither JPEG nor PNG");
  const std::string converted = "it is BMP or WebP, which training reads but not this program: convert it to PNG";
  EXPECT_EQ(Reason("BM6"), converted);
  EXPECT_EQ(Reason("RIFF....WEBPVP8 "), converted);
  EXPECT_EQ(Reason(std::string("\xFF\xD8\xFF", 3)), "it is truncated");
  EXPECT_EQ(Reason(std::string("\x89PNG\r\n\x1A\n", 8)), "it is truncated");
}

TEST(Decode, RefusesTooManyPixelsBeforeAllocatingThem) {
  EXPECT_EQ(Reason(Png(Gradient(10, 10)), 99), "it has 10 x 10 pixels, more than 99");
  EXPECT_EQ(Reason(Jpeg(Gradient(10, 10)), 99), "it has 10 x 10 pixels, more than 99");
  // A header that claims 2^31 - 1 pixels a side, with a valid checksum but no pixels behind it.
  const std::string bomb("\x89PNG\r\n\x1A\n\0\0\0\rIHDR\x7F\xFF\xFF\xFF\x7F\xFF\xFF\xFF\x08\x02\0\0\0\xE6\xA5\x4D\x6F",
                         33);
  EXPECT_NE(Reason(bomb), "decoded");
}

TEST(Decode, EveryTruncationIsAnErrorOrTheWholeImage) {
  const Image image = Gradient(40, 30);
  const std::string png = Png(image);
  const std::string jpeg = Jpeg(image);
  for (std::size_t length = 0; length < jpeg.size(); ++length)
    EXPECT_NE(Reason(std::string_view(jpeg).substr(0, length)), "decoded") << length;
  int whole = 0;
  for (std::size_t length = 0; length < png.size(); ++length) {
    const std::string_view cut = std::string_view(png).substr(0, length);
    if (Reason(cut) == "decoded") {
      EXPECT_EQ(Decode(cut, kEnough).pixels, image.pixels) << length;
      ++whole;
    }
  }
  EXPECT_LE(whole, 16);  // the last checksum and the end mark
}

TEST(Decode, SurvivesFlippedBytes) {
  const Image image = Gradient(40, 30);
  std::uint32_t random = 1;
  for (const std::string& good : {Png(image), Jpeg(image)}) {
    for (int trial = 0; trial < 400; ++trial) {
      std::string bad = good;
      for (int flips = 0; flips < 3; ++flips) {
        random = random * 1664525U + 1013904223U;
        bad[(random >> 8U) % bad.size()] ^= static_cast<char>(1U << (random & 7U));
      }
      EXPECT_FALSE(Reason(bad).empty());  // decoded or refused: what counts is that the sanitizers stay silent
    }
  }
}

}  // namespace
}  // namespace infer
