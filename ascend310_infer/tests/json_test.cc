#include "inc/json.h"

#include <gtest/gtest.h>

#include "inc/errors.h"

namespace infer {
namespace {

TEST(Json, ReadsEveryKindOfValue) {
  const Json json = Json::Parse(R"( {"a": [1, -2.5e1, true, null], "b": {"c": "x\n\u00e9\ud83d\ude00"}} )");
  EXPECT_EQ(json.At("a").AsArray("a").at(0).AsInt("a"), 1);
  EXPECT_EQ(json.At("a").AsArray("a").at(1).AsNumber("a"), -25);
  EXPECT_TRUE(json.At("a").AsArray("a").at(2).AsBool("a"));
  EXPECT_EQ(json.At("b").At("c").AsString("c"), "x\n\xC3\xA9\xF0\x9F\x98\x80");
  EXPECT_EQ(json.Find("nothing"), nullptr);
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text : {"",
                           "{",
                           "[1,]",
                           "{\"a\":1,}",
                           "{\"a\" 1}",
                           "{a:1}",
                           "[1 2]",
                           "nul",
                           "inf",
                           "nan",
                           "+1",
                           "'a'",
                           "\"a",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "\"\\ud800\"",
                           "\"\\ud800\\u0041\"",
                           "\"\n\"",
                           "1 2",
                           "{\"a\":1,\"a\":2}",
                           "1e999"}) {
    EXPECT_THROW(Json::Parse(text), UsageError) << text;
  }
}

TEST(Json, RefusesDepthInsteadOfOverflowingTheStack) {
  EXPECT_THROW(Json::Parse(std::string(100000, '[')), UsageError);
}

TEST(Json, NamesTheValueOfTheWrongKind) {
  const Json json = Json::Parse(R"({"size": "large", "half": 0.5})");
  try {
    static_cast<void>(json.At("size").AsInt("size"));
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "size must be a number");
  }
  EXPECT_THROW(static_cast<void>(json.At("half").AsInt("half")), UsageError);
  EXPECT_THROW(static_cast<void>(json.At("missing")), UsageError);
  EXPECT_THROW(static_cast<void>(Json::Parse("3").At("a")), UsageError);
}

TEST(JsonQuoted, GivesAnyBytesBack) {
  std::string all;
  for (int byte = 1; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  for (const std::string& text : {std::string("plain"), std::string("\"\\\t\n"), std::string("\xC3\xA9 \xE7\x8C\xAB"),
                                  std::string("\xF0\x9F\x98\x80"), std::string("\xFF\xC3"), all}) {
    EXPECT_EQ(Json::Parse(JsonQuoted(text)).AsString("text"), text);
  }
}

TEST(JsonQuoted, EscapesInvalidBytesAsPythonDoes) { EXPECT_EQ(JsonQuoted("a\xFF"), "\"a\\udcff\""); }

TEST(IsPlainText, AcceptsUtf8AndRefusesControlsAndRawBytes) {
  EXPECT_TRUE(IsPlainText("caf\xC3\xA9 1.jpg"));
  EXPECT_FALSE(IsPlainText("a\nb"));
  EXPECT_FALSE(IsPlainText("a\x7F"));
  EXPECT_FALSE(IsPlainText("\xFF"));
}

}  // namespace
}  // namespace infer
