// Exit statuses of the program and the exceptions that lead to them.
#ifndef ASCEND310_INFER_INC_ERRORS_H_
#define ASCEND310_INFER_INC_ERRORS_H_

#include <stdexcept>
#include <string>

namespace infer {

enum ExitStatus : int {
  kExitDone = 0,
  kExitFailed = 1,     // model, device or disk
  kExitUsage = 2,      // command line or manifest
  kExitBadImages = 3,  // every good image was predicted, at least one could not be read
  kExitNoModel = 4,    // this MindSpore Lite cannot build the model
};

class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Model, device or disk: nothing more can be predicted.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// This MindSpore Lite cannot build the model: often one that is newer than it reads.
class ModelRefused : public Failure {
 public:
  using Failure::Failure;
};

// One image cannot be read. The message does not repeat its path.
class ImageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace infer

#endif  // ASCEND310_INFER_INC_ERRORS_H_
