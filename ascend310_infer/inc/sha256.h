// SHA-256 (FIPS 180-4) of a block of memory, to check a model against its manifest before it is parsed.
#ifndef ASCEND310_INFER_INC_SHA256_H_
#define ASCEND310_INFER_INC_SHA256_H_

#include <string>
#include <string_view>

namespace infer {

// 64 lower-case hexadecimal digits.
std::string Sha256(std::string_view bytes);

}  // namespace infer

#endif  // ASCEND310_INFER_INC_SHA256_H_
