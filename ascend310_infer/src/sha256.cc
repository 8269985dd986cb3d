#include "inc/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "inc/errors.h"

namespace infer {

std::string Sha256(std::string_view bytes) {
  std::array<unsigned char, 32> digest{};
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1)
    throw Failure("OpenSSL has no SHA-256 here");
  std::string digits;
  for (const unsigned byte : digest) {
    digits.push_back("0123456789abcdef"[byte >> 4U]);
    digits.push_back("0123456789abcdef"[byte & 0xFU]);
  }
  return digits;
}

}  // namespace infer
