// Turns an ONNX file into a MindIR file with MindSpore Lite's own converter, which also quantises.

#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include <include/api/types.h>

#include "inc/errors.h"
#include "inc/lite_converter.h"

namespace infer {
namespace {

std::vector<char> Characters(const std::string& text) { return {text.begin(), text.end()}; }

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2 || arguments.size() > 3)
    throw UsageError("usage: convert ONNX_FILE OUTPUT_WITHOUT_SUFFIX [CONFIG_FILE]");
  mindspore::Converter converter;
  converter.SetSaveType(mindspore::kMindIR);
  if (arguments.size() == 3) converter.SetConfigFile(Characters(arguments[2]));
  const mindspore::Status status =
      converter.Convert(mindspore::converter::kFmkTypeOnnx, Characters(arguments[0]), Characters(arguments[1]), {});
  if (!status.IsOk()) throw Failure("MindSpore Lite cannot convert " + arguments[0] + ": " + status.ToString());
  return kExitDone;
}

}  // namespace
}  // namespace infer

int main(int argc, char** argv) {
  try {
    return infer::Run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const infer::UsageError& error) {
    std::cerr << "error: " << error.what() << '\n';
    return infer::kExitUsage;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return infer::kExitFailed;
  }
}
