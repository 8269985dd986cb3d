#include "inc/files.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <system_error>

#include "inc/errors.h"
#include "inc/text.h"

namespace fs = std::filesystem;

namespace infer {
namespace {

// JPEG and PNG are decoded; the others are listed so that each is named as unreadable, not silently left out.
constexpr std::array<std::string_view, 10> kImageSuffixes = {".jpg", ".jpeg", ".jpe",  ".png", ".bmp",
                                                             ".gif", ".webp", ".tiff", ".tif", ".ppm"};

bool IsImageName(const fs::path& path) {
  std::string suffix = path.extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return std::find(kImageSuffixes.begin(), kImageSuffixes.end(), suffix) != kImageSuffixes.end();
}

class Walk {
 public:
  explicit Walk(fs::path root) : root_(std::move(root)) { Visit(root_, true); }

  ImageFiles Result() && {
    ImageFiles found;
    found.others = others_;
    if (nested_.empty()) {
      found.paths = std::move(loose_);
    } else {
      found.paths = std::move(nested_);
      found.others += loose_.size();
    }
    std::sort(found.paths.begin(), found.paths.end(),
              [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
    return found;
  }

 private:
  void Visit(const fs::path& folder, bool is_root) {
    std::error_code error;
    const fs::path real = fs::canonical(folder, error);
    if (error || !seen_.insert(real).second) return;  // a dangling link, or a folder reached before by another way
    fs::directory_iterator entries(folder, error);
    for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
      const fs::path& path = entries->path();
      if (path.filename().native().front() == '.') continue;
      std::error_code unknown;
      if (fs::is_directory(path, unknown))
        Visit(path, false);
      else if (IsImageName(path))
        (is_root ? loose_ : nested_).push_back(path.lexically_relative(root_));
      else
        ++others_;
    }
    if (error) throw Failure("cannot read the folder " + Printable(folder.native()) + ": " + error.message());
  }

  fs::path root_;
  std::vector<fs::path> loose_;
  std::vector<fs::path> nested_;
  std::size_t others_ = 0;
  std::set<fs::path> seen_;
};

}  // namespace

std::string ReadFile(const fs::path& path, std::size_t max_bytes) {
  const auto fail = [&](const std::string& why) -> Failure {
    return Failure("cannot read " + Printable(path.native()) + ": " + why);
  };
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (error && !fs::exists(status)) throw fail(std::make_error_code(std::errc::no_such_file_or_directory).message());
  if (!fs::is_regular_file(status)) throw fail(fs::exists(status) ? "it is not a regular file" : "no such file");
  const std::uintmax_t size = fs::file_size(path, error);
  if (error) throw fail(error.message());
  if (size > max_bytes) throw fail("it is larger than " + std::to_string(max_bytes) + " bytes");
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw fail(std::strerror(errno));
  std::string bytes(static_cast<std::size_t>(size), '\0');
  stream.read(bytes.data(), static_cast<std::streamsize>(size));
  if (static_cast<std::uintmax_t>(stream.gcount()) != size) throw fail("it ended too early");
  return bytes;
}

void WriteFile(const fs::path& path, std::string_view bytes) {
  errno = 0;
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  stream.close();
  if (!stream)
    throw Failure("cannot write " + Printable(path.native()) + ": " + std::strerror(errno == 0 ? EIO : errno));
}

ImageFiles FindImages(const fs::path& folder) {
  if (!fs::is_directory(folder)) throw UsageError("there is no folder " + Printable(folder.native()));
  ImageFiles found = Walk(folder).Result();
  if (found.paths.empty()) throw UsageError("there is no image in " + Printable(folder.native()));
  return found;
}

}  // namespace infer
