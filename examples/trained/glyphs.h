// Images of letters and digits from X's bitmap fonts, with their names, split by font family.
#pragma once

#include <weft/tensor/tensor.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace weft::examples {

constexpr const char* kFontFolder = "/usr/share/fonts/X11/75dpi";  // of Debian's package xfonts-75dpi
constexpr int64_t kGlyphSize = 24;                                 // pixels of an image's side
constexpr int64_t kGlyphClasses = 62;                              // 0-9, A-Z, a-z

// Families that are never trained on.
inline const std::set<std::string> kHeldOutFamilies{"Helvetica", "New Century Schoolbook"};

// One set of images.
struct Glyphs {
  std::vector<float> pixels;  // [n, 24, 24], from 0 to 1 for ink
  std::vector<int64_t> classes;
  std::set<std::string> families;
  int64_t fonts = 0;
  int64_t size() const { return static_cast<int64_t>(classes.size()); }

  // float32 [b, 1, 24, 24]: the images of the given numbers, each stretched, slanted and moved at random, by up to this
  // share.
  Tensor images(const std::vector<int64_t>& numbers, double distort = 0) const;
  // Their classes: int64 [b].
  Tensor labels(const std::vector<int64_t>& numbers) const;
  // The numbers of all images, so many at a time.
  std::vector<std::vector<int64_t>> batches(int64_t size) const;
  // The name of each image.
  std::vector<std::string> names() const;
};

struct GlyphData {
  Glyphs train, test;
  int64_t repeated = 0;   // test images left out: their bitmap is also one in training, as small fonts' often are
  int64_t ambiguous = 0;  // test images kept whose bitmap stands for another character in the same font too
};

// The letters and digits of every font with Latin-1 codes in a folder (Symbol and the like are passed over). A
// character is drawn by its em: 24 rows are 1.2 em, the baseline at row 19, so that all sizes of a font give about
// the same image; it stands in the middle. Throws weft::Error, naming the Debian package, where there are no fonts.
GlyphData load_glyphs(const std::filesystem::path& folder);

// Prints what the two sets are.
void describe(const GlyphData& data);

// The character of a class, and its name: "digit seven", "capital a", "small a".
char glyph_character(int64_t cls);
std::string glyph_name(int64_t cls);

}  // namespace weft::examples
