#include "inc/text.h"

#include <gtest/gtest.h>

namespace infer {
namespace {

TEST(JsonQuoted, EscapesWhatIsNoPlainAscii) {
  EXPECT_EQ(JsonQuoted(""), "\"\"");
  EXPECT_EQ(JsonQuoted("plain ~"), "\"plain ~\"");
  EXPECT_EQ(JsonQuoted("\"\\\t\n\x7F"), R"("\"\\\t\n\u007f")");
  EXPECT_EQ(JsonQuoted("\xC3\xA9 \xE7\x8C\xAB"), R"("\u00e9 \u732b")");
  EXPECT_EQ(JsonQuoted("\xF0\x9F\x98\x80"), R"("\ud83d\ude00")");
}

TEST(JsonQuoted, EscapesInvalidBytesAsPythonDoes) {
  EXPECT_EQ(JsonQuoted("a\xFF"), R"("a\udcff")");
  // Cut short, too long for its value, a surrogate, beyond U+10FFFF; and what follows is read again.
  EXPECT_EQ(JsonQuoted("\xC3\xA9\xC3"), R"("\u00e9\udcc3")");
  EXPECT_EQ(JsonQuoted("\xC0\xAF\xC3\xA9"), R"("\udcc0\udcaf\u00e9")");
  EXPECT_EQ(JsonQuoted("\xED\xA0\x80"), R"("\udced\udca0\udc80")");
  EXPECT_EQ(JsonQuoted("\xF4\x90\x80\x80z"), R"("\udcf4\udc90\udc80\udc80z")");
  EXPECT_EQ(JsonQuoted("\xFF\xF0\x9F\x98\x80\xFF"), R"("\udcff\ud83d\ude00\udcff")");
}

TEST(Printable, LeavesReadableNamesAndEscapesTheOthers) {
  EXPECT_EQ(Printable("caf\xC3\xA9 1.jpg"), "caf\xC3\xA9 1.jpg");
  EXPECT_EQ(Printable("\xC2\xA0"), "\xC2\xA0");
  EXPECT_EQ(Printable("a\nb"), R"("a\nb")");
  EXPECT_EQ(Printable("a\x7F"), R"("a\u007f")");
  EXPECT_EQ(Printable("\xC2\x9F"), R"("\u009f")");
  EXPECT_EQ(Printable("\xFF"), R"("\udcff")");
}

}  // namespace
}  // namespace infer
