#include "inc/image.h"

#include <csetjmp>
#include <cstdio>  // jpeglib.h needs FILE and does not include it

#include <jpeglib.h>
#include <png.h>

#include <array>
#include <cstring>
#include <limits>
#include <string>

#include "inc/errors.h"

// libjpeg and libpng report errors by longjmp. Every function that can be jumped out of therefore holds
// plain data only; what owns memory lives in its caller.

namespace infer {
namespace {

using namespace std::string_view_literals;

constexpr std::size_t kMessageBytes = 200;
static_assert(kMessageBytes >= JMSG_LENGTH_MAX);

void CheckSize(std::size_t width, std::size_t height, std::size_t max_pixels) {
  if (width == 0 || height == 0) throw ImageError("it has no pixels");
  constexpr std::size_t kMaxSide = std::numeric_limits<int>::max() / 4;
  if (width > kMaxSide || height > kMaxSide || width > max_pixels / height) {
    throw ImageError("it has " + std::to_string(width) + " x " + std::to_string(height) + " pixels, more than " +
                     std::to_string(max_pixels));
  }
}

// ---- JPEG ----

struct JpegErrors {
  jpeg_error_mgr manager;  // first: libjpeg hands back a pointer to it
  std::jmp_buf jump;
  std::array<char, kMessageBytes> message;
};

[[noreturn]] void JpegFail(j_common_ptr state) {
  auto* errors = reinterpret_cast<JpegErrors*>(state->err);
  state->err->format_message(state, errors->message.data());
  std::longjmp(errors->jump, 1);  // NOLINT(cert-err52-cpp): libjpeg's protocol
}

void JpegIgnoreMessage(j_common_ptr /*state*/) {}

// libjpeg's own memory source pads a truncated file with an end marker and only warns; here it is an error.
boolean JpegEnded(j_decompress_ptr state) {
  auto* errors = reinterpret_cast<JpegErrors*>(state->err);
  std::snprintf(errors->message.data(), errors->message.size(), "it is truncated");
  std::longjmp(errors->jump, 1);  // NOLINT(cert-err52-cpp): libjpeg's protocol
}

void JpegSkip(j_decompress_ptr state, long count) {  // NOLINT(google-runtime-int): libjpeg's signature
  if (count <= 0) return;
  if (static_cast<std::size_t>(count) > state->src->bytes_in_buffer) JpegEnded(state);
  state->src->next_input_byte += count;
  state->src->bytes_in_buffer -= static_cast<std::size_t>(count);
}

void JpegNothing(j_decompress_ptr /*state*/) {}

class JpegDecoder {
 public:
  explicit JpegDecoder(std::string_view file) {
    state_.err = jpeg_std_error(&errors_.manager);
    errors_.manager.error_exit = JpegFail;
    errors_.manager.output_message = JpegIgnoreMessage;
    jpeg_create_decompress(&state_);
    source_.next_input_byte = reinterpret_cast<const JOCTET*>(file.data());
    source_.bytes_in_buffer = file.size();
    source_.init_source = JpegNothing;
    source_.fill_input_buffer = JpegEnded;
    source_.skip_input_data = JpegSkip;
    source_.resync_to_restart = jpeg_resync_to_restart;
    source_.term_source = JpegNothing;
    state_.src = &source_;
  }
  ~JpegDecoder() { jpeg_destroy_decompress(&state_); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  Image Run(std::size_t max_pixels) {
    if (!ReadHeader()) throw ImageError(errors_.message.data());
    CheckSize(state_.image_width, state_.image_height, max_pixels);
    Image image{static_cast<int>(state_.image_width), static_cast<int>(state_.image_height), {}};
    const std::size_t count = static_cast<std::size_t>(state_.image_width) * state_.image_height;
    const bool is_cmyk = state_.out_color_space == JCS_CMYK;
    image.pixels.resize(count * (is_cmyk ? 4 : 3));
    if (!ReadRows(image.pixels.data())) throw ImageError(errors_.message.data());
    if (is_cmyk) FromCmyk(count, state_.saw_Adobe_marker != FALSE, &image.pixels);
    return image;
  }

 private:
  bool ReadHeader() {
    if (setjmp(errors_.jump) != 0)  // NOLINT(cert-err52-cpp): libjpeg's protocol
      return false;
    jpeg_read_header(&state_, TRUE);
    const bool is_cmyk = state_.jpeg_color_space == JCS_CMYK || state_.jpeg_color_space == JCS_YCCK;
    state_.out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
    return true;
  }

  bool ReadRows(std::uint8_t* rows) {
    if (setjmp(errors_.jump) != 0)  // NOLINT(cert-err52-cpp): libjpeg's protocol
      return false;
    jpeg_start_decompress(&state_);
    const std::size_t stride =
        static_cast<std::size_t>(state_.output_width) * static_cast<std::size_t>(state_.output_components);
    while (state_.output_scanline < state_.output_height) {
      JSAMPROW row = rows + state_.output_scanline * stride;
      jpeg_read_scanlines(&state_, &row, 1);
    }
    jpeg_finish_decompress(&state_);
    return true;
  }

  // In place, front to back: pixel i is read from 4i and written to 3i. Adobe's files hold inverted ink.
  static void FromCmyk(std::size_t count, bool is_inverted, std::vector<std::uint8_t>* pixels) {
    for (std::size_t i = 0; i < count; ++i) {
      std::array<int, 4> ink{};
      for (std::size_t c = 0; c < 4; ++c) {
        const int value = (*pixels)[4 * i + c];
        ink[c] = is_inverted ? 255 - value : value;
      }
      for (std::size_t c = 0; c < 3; ++c)
        (*pixels)[3 * i + c] = static_cast<std::uint8_t>(((255 - ink[c]) * (255 - ink[3]) + 127) / 255);
    }
    pixels->resize(count * 3);
  }

  jpeg_decompress_struct state_{};
  jpeg_source_mgr source_{};
  JpegErrors errors_{};
};

// ---- PNG ----

struct PngInput {
  const char* data;
  std::size_t left;
  std::array<char, kMessageBytes> message;
};

[[noreturn]] void PngFail(png_structp state, png_const_charp message) {
  auto* input = static_cast<PngInput*>(png_get_error_ptr(state));
  std::snprintf(input->message.data(), input->message.size(), "%s", message);
  png_longjmp(state, 1);
}

void PngIgnoreWarning(png_structp /*state*/, png_const_charp /*message*/) {}

void PngRead(png_structp state, png_bytep out, png_size_t count) {
  auto* input = static_cast<PngInput*>(png_get_io_ptr(state));
  if (count > input->left) png_error(state, "it is truncated");
  std::memcpy(out, input->data, count);
  input->data += count;
  input->left -= count;
}

class PngDecoder {
 public:
  explicit PngDecoder(std::string_view file)
      : input_{file.data(), file.size(), {}},
        state_(png_create_read_struct(PNG_LIBPNG_VER_STRING, &input_, PngFail, PngIgnoreWarning)),
        info_(state_ == nullptr ? nullptr : png_create_info_struct(state_)) {
    if (info_ == nullptr) {
      png_destroy_read_struct(&state_, nullptr, nullptr);
      throw Failure("libpng cannot start: out of memory, or another version than it was built with");
    }
    png_set_read_fn(state_, &input_, PngRead);
  }
  ~PngDecoder() { png_destroy_read_struct(&state_, &info_, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  Image Run(std::size_t max_pixels) {
    if (!ReadHeader()) throw ImageError(input_.message.data());
    const std::size_t width = png_get_image_width(state_, info_);
    const std::size_t height = png_get_image_height(state_, info_);
    CheckSize(width, height, max_pixels);
    Image image{static_cast<int>(width), static_cast<int>(height), {}};
    image.pixels.resize(width * height * 3);
    std::vector<png_bytep> rows(height);
    for (std::size_t y = 0; y < height; ++y) rows[y] = image.pixels.data() + y * width * 3;
    if (!ReadRows(rows.data(), width * 3)) throw ImageError(input_.message.data());
    return image;
  }

 private:
  bool ReadHeader() {
    if (setjmp(png_jmpbuf(state_)) != 0)  // NOLINT(cert-err52-cpp): libpng's protocol
      return false;
    // The size is judged by CheckSize; libpng's own limit of a million a side would hide its message.
    png_set_user_limits(state_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_read_info(state_, info_);
    return true;
  }

  bool ReadRows(png_bytepp rows, std::size_t stride) {
    if (setjmp(png_jmpbuf(state_)) != 0)  // NOLINT(cert-err52-cpp): libpng's protocol
      return false;
    png_set_strip_16(state_);
    png_set_palette_to_rgb(state_);
    png_set_expand_gray_1_2_4_to_8(state_);
    png_set_gray_to_rgb(state_);
    png_set_strip_alpha(state_);
    png_set_interlace_handling(state_);
    png_read_update_info(state_, info_);
    if (png_get_rowbytes(state_, info_) != stride) png_error(state_, "its pixels are of an unknown kind");
    png_read_image(state_, rows);  // not png_read_end: Pillow too takes a file that lacks only its end mark
    return true;
  }

  PngInput input_;
  png_structp state_;
  png_infop info_;
};

}  // namespace

Image Decode(std::string_view file, std::size_t max_pixels) {
  if (file.empty()) throw ImageError("it is empty");
  if (file.substr(0, 3) == "\xFF\xD8\xFF"sv) return JpegDecoder(file).Run(max_pixels);
  if (file.substr(0, 8) == "\x89PNG\r\n\x1A\n"sv) return PngDecoder(file).Run(max_pixels);
  const bool is_webp = file.size() >= 12 && file.substr(0, 4) == "RIFF"sv && file.substr(8, 4) == "WEBP"sv;
  if (is_webp || file.substr(0, 2) == "BM"sv)
    throw ImageError("it is BMP or WebP, which training reads but not this program: convert it to PNG");
  throw ImageError("it is neither JPEG nor PNG");
}

}  // namespace infer
