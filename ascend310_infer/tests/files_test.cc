#include "inc/files.h"

#include <gtest/gtest.h>

#include "inc/errors.h"
#include "tests/support.h"

namespace fs = std::filesystem;

namespace infer {
namespace {

using testing::TemporaryFolder;

std::vector<std::string> Names(const ImageFiles& files) {
  std::vector<std::string> names;
  for (const fs::path& path : files.paths) names.push_back(path.string());
  return names;
}

TEST(FindImages, TakesAnySuffixCaseInSortedOrderAndCountsTheRest) {
  const TemporaryFolder folder;
  folder.Add("b.JPEG");
  folder.Add("a.Png");
  folder.Add("c.jpg");
  folder.Add("notes.txt");
  folder.Add(".hidden.jpg");
  const ImageFiles found = FindImages(folder.Path());
  EXPECT_EQ(Names(found), (std::vector<std::string>{"a.Png", "b.JPEG", "c.jpg"}));
  EXPECT_EQ(found.others, 1U);
}

TEST(FindImages, PrefersSubFoldersToLooseFiles) {
  const TemporaryFolder folder;
  folder.Add("loose.jpg");
  folder.Add("cat/a.jpg");
  folder.Add("cat/deep/er/b.png");
  folder.Add("dog/a.jpg");
  folder.Add(".git/c.jpg");
  const ImageFiles found = FindImages(folder.Path());
  EXPECT_EQ(Names(found), (std::vector<std::string>{"cat/a.jpg", "cat/deep/er/b.png", "dog/a.jpg"}));
  EXPECT_EQ(found.others, 1U);
}

TEST(FindImages, KeepsOddNames) {
  const TemporaryFolder folder;
  const std::vector<std::string> odd = {" leading.jpg",  "$(rm).jpg",    "-dash.jpg",   "a;b.jpg",
                                        "new\nline.jpg", "two.dots.jpg", "\xFF\xFE.jpg"};
  for (const std::string& name : odd) folder.Add("class one/" + name);
  EXPECT_EQ(FindImages(folder.Path()).paths.size(), odd.size());
}

TEST(FindImages, FollowsLinksOnceAndSurvivesLoops) {
  const TemporaryFolder folder;
  const TemporaryFolder elsewhere;
  elsewhere.Add("a.jpg");
  folder.Add("real/b.jpg");
  fs::create_directory_symlink(elsewhere.Path(), folder.Path() / "linked");
  fs::create_directory_symlink(folder.Path(), folder.Path() / "real" / "loop");
  fs::create_symlink(elsewhere.Path() / "a.jpg", folder.Path() / "real" / "link.jpg");
  fs::create_symlink(folder.Path() / "nowhere", folder.Path() / "real" / "dangling.jpg");
  EXPECT_EQ(Names(FindImages(folder.Path())),
            (std::vector<std::string>{"linked/a.jpg", "real/b.jpg", "real/dangling.jpg", "real/link.jpg"}));
}

TEST(FindImages, RefusesAFolderWithoutImagesOrNone) {
  const TemporaryFolder folder;
  folder.Add("notes.txt");
  EXPECT_THROW(FindImages(folder.Path()), UsageError);
  EXPECT_THROW(FindImages(folder.Path() / "missing"), UsageError);
  EXPECT_THROW(FindImages(folder.Path() / "notes.txt"), UsageError);
}

TEST(ReadFile, GivesBytesBackOrSaysWhy) {
  const TemporaryFolder folder;
  const std::string bytes("a\0b\n", 4);
  const fs::path path = folder.Add("file", bytes);
  EXPECT_EQ(ReadFile(path, 4), bytes);
  EXPECT_THROW(ReadFile(path, 3), Failure);
  EXPECT_THROW(ReadFile(folder.Path(), 100), Failure);
  EXPECT_THROW(ReadFile(folder.Path() / "missing", 100), Failure);
  EXPECT_EQ(ReadFile(folder.Add("empty", ""), 100), "");
}

TEST(WriteFile, ReportsAFullDiskAndAMissingFolder) {
  EXPECT_THROW(WriteFile("/dev/full", std::string(100000, 'x')), Failure);
  EXPECT_THROW(WriteFile("/dev/full", "x"), Failure);
  const TemporaryFolder folder;
  EXPECT_THROW(WriteFile(folder.Path() / "missing" / "file", "x"), Failure);
}

}  // namespace
}  // namespace infer
