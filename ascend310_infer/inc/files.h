// Reading and writing whole files, and finding the images of a folder.
#ifndef ASCEND310_INFER_INC_FILES_H_
#define ASCEND310_INFER_INC_FILES_H_

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace infer {

// The bytes of a regular file of at most `max_bytes`. Throws Failure saying why it cannot be read.
std::string ReadFile(const std::filesystem::path& path, std::size_t max_bytes);

// Writes `bytes` to a file of this name; Failure when any of them does not reach it (full disk, missing folder).
void WriteFile(const std::filesystem::path& path, std::string_view bytes);

struct ImageFiles {
  std::vector<std::filesystem::path> paths;  // relative to the folder, sorted by their bytes
  std::size_t others = 0;                    // files left out: no image suffix, or beside the class folders
};

// The images of `folder`: those of its sub-folders at any depth or, when these hold none, those that lie
// in the folder itself. An image is what has the suffix of one, in any case. Symbolic links are followed, each
// folder once; names that begin with a dot are left out. Throws UsageError when there is no such folder or no
// image, Failure when a folder cannot be read.
ImageFiles FindImages(const std::filesystem::path& folder);

}  // namespace infer

#endif  // ASCEND310_INFER_INC_FILES_H_
