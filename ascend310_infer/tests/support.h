// What several tests need: a folder that goes away, encoded images, and a stand-in for a model.
#ifndef ASCEND310_INFER_TESTS_SUPPORT_H_
#define ASCEND310_INFER_TESTS_SUPPORT_H_

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp is POSIX

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <jpeglib.h>
#include <png.h>

#include "inc/files.h"
#include "inc/image.h"
#include "inc/predictor.h"

namespace infer::testing {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "infer_test_XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  // A file of these bytes at a path inside the folder.
  std::filesystem::path Add(const std::filesystem::path& name, std::string_view bytes = "x") const {
    const std::filesystem::path path = path_ / name;
    std::filesystem::create_directories(path.parent_path());
    WriteFile(path, bytes);
    return path;
  }
  [[nodiscard]] const std::filesystem::path& Path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// width x height pixels whose values follow from their position.
inline Image Gradient(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) image.pixels.push_back(static_cast<std::uint8_t>((x * 7 + y * 13 + c * 50) % 256));
  }
  return image;
}

// `channels` bytes a pixel: 1 gray, 3 RGB, 4 RGB and alpha.
inline std::string Png(int width, int height, int channels, const std::vector<std::uint8_t>& pixels) {
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(width);
  header.height = static_cast<png_uint_32>(height);
  header.format = channels == 1 ? PNG_FORMAT_GRAY : (channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_RGBA);
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(header);
  std::string bytes(size, '\0');
  if (png_image_write_to_memory(&header, bytes.data(), &size, 0, pixels.data(), 0, nullptr) == 0)
    throw std::runtime_error("cannot encode a PNG");
  bytes.resize(size);
  return bytes;
}

inline std::string Png(const Image& image) { return Png(image.width, image.height, 3, image.pixels); }

inline std::string Jpeg(int width, int height, int channels, J_COLOR_SPACE space,
                        const std::vector<std::uint8_t>& pixels) {
  jpeg_compress_struct state{};
  jpeg_error_mgr errors{};
  state.err = jpeg_std_error(&errors);
  jpeg_create_compress(&state);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;  // NOLINT(google-runtime-int): libjpeg's type
  jpeg_mem_dest(&state, &buffer, &size);
  state.image_width = static_cast<JDIMENSION>(width);
  state.image_height = static_cast<JDIMENSION>(height);
  state.input_components = channels;
  state.in_color_space = space;
  jpeg_set_defaults(&state);
  jpeg_set_quality(&state, 100, TRUE);
  jpeg_start_compress(&state, TRUE);
  while (state.next_scanline < state.image_height) {
    auto* row = const_cast<JSAMPLE*>(pixels.data() + state.next_scanline * static_cast<std::size_t>(width * channels));
    jpeg_write_scanlines(&state, &row, 1);
  }
  jpeg_finish_compress(&state);
  std::string bytes(reinterpret_cast<const char*>(buffer), size);
  jpeg_destroy_compress(&state);
  free(buffer);  // NOLINT(cppcoreguidelines-no-malloc): libjpeg allocated it so
  return bytes;
}

inline std::string Jpeg(const Image& image) { return Jpeg(image.width, image.height, 3, JCS_RGB, image.pixels); }

// Two outputs: the first byte of each row, and the row's number in its batch twice.
class FakeModel : public Predictor {
 public:
  FakeModel(std::size_t batch, int image_size) : input_{batch, image_size, true} {}

  [[nodiscard]] const InputSpec& Input() const override { return input_; }

  std::vector<std::string_view> Predict(std::string_view batch) override {
    ++calls;
    first_.clear();
    second_.clear();
    for (std::size_t row = 0; row < input_.batch; ++row) {
      first_.push_back(batch[row * input_.RowBytes()]);
      second_.append(2, static_cast<char>('0' + row));
    }
    return {first_, second_};
  }

  int calls = 0;

 private:
  InputSpec input_;
  std::string first_;
  std::string second_;
};

}  // namespace infer::testing

#endif  // ASCEND310_INFER_TESTS_SUPPORT_H_
