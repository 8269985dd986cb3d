// Decoding of JPEG and PNG into 8-bit RGB, as MindSpore's Decode and Pillow's convert("RGB") do.
#ifndef ASCEND310_INFER_INC_IMAGE_H_
#define ASCEND310_INFER_INC_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace infer {

// RGB, row by row, 8 bits a channel.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> pixels;

  [[nodiscard]] const std::uint8_t* Row(int y) const {
    return pixels.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(width) * 3;
  }
};

// Decodes a JPEG or PNG file, told apart by content. Grey, palette, CMYK and 16-bit images become 8-bit
// RGB, alpha is dropped, EXIF orientation is ignored. Throws ImageError: empty, another format, damaged,
// truncated, or of more than `max_pixels` pixels (known from the header, before anything is allocated).
Image Decode(std::string_view file, std::size_t max_pixels);

}  // namespace infer

#endif  // ASCEND310_INFER_INC_IMAGE_H_
