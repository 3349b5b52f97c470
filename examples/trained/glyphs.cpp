#include <weft/examples/trained/glyphs.h>
#include <weft/examples/trained/pcf.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/random.h>
#include <weft/tensor/error.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace weft::examples {
namespace fs = std::filesystem;
namespace {

constexpr const char* kCharacters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr const char* kDigits[] = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"};
constexpr double kRowsAnEm = 20;
constexpr double kBaseline = 19;

// The length that [a, a + size) and the pixel [i, i + 1) have in common.
double overlap(double a, double size, int64_t i) {
  const auto pixel = static_cast<double>(i);
  return std::max(0.0, std::min(a + size, pixel + 1) - std::max(a, pixel));
}

// A pixel of the image is the share of ink in the square of the bitmap that it covers. → [24, 24]
std::vector<float> render(const PcfGlyph& glyph, double em) {
  const double step = em / kRowsAnEm;  // bitmap pixels a pixel of the image
  std::vector<float> image;
  for (int64_t y = 0; y < kGlyphSize; ++y)
    for (int64_t x = 0; x < kGlyphSize; ++x) {
      const double top = (static_cast<double>(y) - kBaseline) * step + static_cast<double>(glyph.ascent);
      const double left = (static_cast<double>(x) - kGlyphSize / 2.0) * step + static_cast<double>(glyph.width) / 2;
      double ink = 0;
      for (int64_t r = std::max<int64_t>(0, static_cast<int64_t>(top));
           r < glyph.height && static_cast<double>(r) < top + step; ++r)
        for (int64_t c = std::max<int64_t>(0, static_cast<int64_t>(left));
             c < glyph.width && static_cast<double>(c) < left + step; ++c)
          if (glyph.pixels[static_cast<size_t>(r * glyph.width + c)])
            ink += overlap(top, step, r) * overlap(left, step, c);
      image.push_back(static_cast<float>(ink / (step * step)));
    }
  return image;
}

// Between four pixels of an image [24, 24], which is empty outside.
float interpolate(const float* image, float y, float x) {
  const auto row = static_cast<int64_t>(std::floor(y)), column = static_cast<int64_t>(std::floor(x));
  const float down = y - static_cast<float>(row), right = x - static_cast<float>(column);
  const auto at = [&](int64_t r, int64_t c) {
    return r < 0 || r >= kGlyphSize || c < 0 || c >= kGlyphSize ? 0.0f : image[r * kGlyphSize + c];
  };
  return (1 - down) * ((1 - right) * at(row, column) + right * at(row, column + 1)) +
         down * ((1 - right) * at(row + 1, column) + right * at(row + 1, column + 1));
}

std::vector<PcfFont> latin_fonts(const fs::path& folder) {
  std::vector<fs::path> paths;
  if (fs::is_directory(folder))
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().string().ends_with(".pcf.gz") || entry.path().extension() == ".pcf")
        paths.push_back(entry.path());
  check(!paths.empty(), "no fonts in ", folder.string(), ": install the Debian package xfonts-75dpi, or give --fonts");
  std::sort(paths.begin(), paths.end());
  std::vector<PcfFont> fonts;
  for (const fs::path& path : paths) {
    PcfFont font = read_pcf(path);
    if (font.properties["CHARSET_REGISTRY"] == "ISO8859" && font.properties["CHARSET_ENCODING"] == "1")
      fonts.push_back(std::move(font));
  }
  return fonts;
}

// What makes a bitmap the same as another.
using Bitmap = std::pair<int64_t, std::vector<uint8_t>>;
Bitmap bitmap(const PcfGlyph& glyph) { return {glyph.width, glyph.pixels}; }

struct Character {
  int64_t cls;
  Bitmap bitmap;
  std::vector<float> image;
};

std::vector<Character> characters(const PcfFont& font, double em) {
  check(em > 0, "a font of the family ", font.properties.at("FAMILY_NAME"), " has no PIXEL_SIZE");
  std::vector<Character> all;
  for (int64_t cls = 0; cls < kGlyphClasses; ++cls) {
    const auto found = font.glyphs.find(glyph_character(cls));
    if (found == font.glyphs.end() || found->second.pixels.empty()) continue;
    all.push_back({cls, bitmap(found->second), render(found->second, em)});
  }
  return all;
}

void add(Glyphs& to, const Character& character) {
  to.pixels.insert(to.pixels.end(), character.image.begin(), character.image.end());
  to.classes.push_back(character.cls);
}

}  // namespace

// A random affine map of each image about its middle: every coefficient off by up to `distort`, the shift by as much of
// half the image.
Tensor Glyphs::images(const std::vector<int64_t>& numbers, double distort) const {
  const auto b = static_cast<int64_t>(numbers.size());
  const auto maps = mul(rand({b, 6}) * 2 - 1, distort).to_vector<float>();
  std::vector<float> out;
  for (int64_t i = 0; i < b; ++i) {
    const float* image = pixels.data() + numbers[static_cast<size_t>(i)] * kGlyphSize * kGlyphSize;
    const float* m = maps.data() + 6 * i;
    const float middle = (kGlyphSize - 1) / 2.0f;
    for (int64_t row = 0; row < kGlyphSize; ++row)
      for (int64_t column = 0; column < kGlyphSize; ++column) {
        const float x = static_cast<float>(column) - middle, y = static_cast<float>(row) - middle;
        out.push_back(interpolate(image, middle + y + m[0] * x + m[1] * y + m[2] * middle,
                                  middle + x + m[3] * x + m[4] * y + m[5] * middle));
      }
  }
  return tensor(out, {b, 1, kGlyphSize, kGlyphSize});
}

Tensor Glyphs::labels(const std::vector<int64_t>& numbers) const {
  std::vector<int64_t> out;
  for (const int64_t number : numbers) out.push_back(classes[static_cast<size_t>(number)]);
  return tensor(out);
}

std::vector<std::vector<int64_t>> Glyphs::batches(int64_t size) const {
  std::vector<std::vector<int64_t>> all;
  for (int64_t from = 0; from < this->size(); from += size) {
    all.emplace_back(std::min(size, this->size() - from));
    std::iota(all.back().begin(), all.back().end(), from);
  }
  return all;
}

std::vector<std::string> Glyphs::names() const {
  std::vector<std::string> all;
  for (const int64_t cls : classes) all.push_back(glyph_name(cls));
  return all;
}

GlyphData load_glyphs(const fs::path& folder) {
  GlyphData data;
  std::set<Bitmap> trained;
  std::vector<std::vector<Character>> held_out;
  for (PcfFont& font : latin_fonts(folder)) {
    const std::string family = font.properties["FAMILY_NAME"];
    const bool held = kHeldOutFamilies.contains(family);
    Glyphs& set = held ? data.test : data.train;
    set.families.insert(family);
    ++set.fonts;
    const std::vector<Character> all = characters(font, std::stod("0" + font.properties["PIXEL_SIZE"]));
    if (held) {
      held_out.push_back(all);
      continue;
    }
    for (const Character& character : all) add(data.train, character), trained.insert(character.bitmap);
  }
  for (const auto& font : held_out)
    for (const Character& character : font) {
      if (trained.contains(character.bitmap)) {
        ++data.repeated;
        continue;
      }
      add(data.test, character);
      data.ambiguous += std::any_of(font.begin(), font.end(), [&](const Character& other) {
        return other.cls != character.cls && other.image == character.image;
      });
    }
  check(data.train.size() > 0 && data.test.size() > 0, "the fonts in ", folder.string(), " give ", data.train.size(),
        " images to train on and ", data.test.size(), " of held-out families: expected those of xfonts-75dpi");
  return data;
}

void describe(const GlyphData& data) {
  for (const auto& [what, set] : {std::pair{"train", &data.train}, std::pair{"test", &data.test}}) {
    std::printf("%-5s  %lld images of %lld fonts:", what, static_cast<long long>(set->size()),
                static_cast<long long>(set->fonts));
    const char* separator = " ";
    for (const std::string& family : set->families) std::printf("%s%s", separator, family.c_str()), separator = ", ";
    std::printf("\n");
  }
  std::printf(
      "test   left out: %lld images whose bitmap occurs in training; kept: %lld that another character of their "
      "font looks like\n",
      static_cast<long long>(data.repeated), static_cast<long long>(data.ambiguous));
}

char glyph_character(int64_t cls) { return kCharacters[cls]; }

std::string glyph_name(int64_t cls) {
  if (cls < 10) return std::string("digit ") + kDigits[cls];
  const char lower = static_cast<char>(glyph_character(cls) | 0x20);
  return (cls < 36 ? "capital " : "small ") + std::string(1, lower);
}

}  // namespace weft::examples
