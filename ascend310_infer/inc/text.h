// Bytes of any kind, as JSON and in a line of a log.
#ifndef ASCEND310_INFER_INC_TEXT_H_
#define ASCEND310_INFER_INC_TEXT_H_

#include <string>
#include <string_view>

namespace infer {

// `bytes` as a quoted JSON string of plain ASCII. Bytes that are not UTF-8 become the lone surrogates
// U+DC80 to U+DCFF, as Python's "surrogateescape" does, so that a reader gets the same file name back.
std::string JsonQuoted(std::string_view bytes);

// `text` as it is or, when it holds control characters or bytes outside UTF-8, quoted with these escaped:
// fit for one line of a log.
std::string Printable(std::string_view text);

}  // namespace infer

#endif  // ASCEND310_INFER_INC_TEXT_H_
