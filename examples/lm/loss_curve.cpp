#include <weft/examples/lm/metrics.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace weft::lm {
namespace {

struct Point {
  double x = 0, y = 0;
};
using Points = std::vector<Point>;

// The picture, in SVG units; the plot is the part inside the margins.
constexpr double kWidth = 880, kHeight = 520;
constexpr double kLeft = 72, kRight = 24, kTop = 56, kBottom = 60;
constexpr const char* kTrainColour = "#4c78a8";
constexpr const char* kValidColour = "#e45756";

template <class... Values>
std::string format(const char* pattern, Values... values) {
  char text[512];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

std::string escape(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '<')
      result += "&lt;";
    else if (c == '&')
      result += "&amp;";
    else
      result += c;
  }
  return result;
}

// An axis from `low` to `high` with marks at multiples of 1, 2 or 5 times a power of ten.
struct Axis {
  double low = 0, high = 1, step = 1;
  double pixel_low = 0, pixel_high = 1;

  static Axis covering(double low, double high, double pixel_low, double pixel_high, int marks) {
    if (!(high > low)) high = low + 1;
    const double rough = (high - low) / marks;
    const double power = std::pow(10.0, std::floor(std::log10(rough)));
    const double ratio = rough / power;
    const double step = power * (ratio <= 1 ? 1 : ratio <= 2 ? 2 : ratio <= 5 ? 5 : 10);
    return {std::floor(low / step) * step, std::ceil(high / step) * step, step, pixel_low, pixel_high};
  }
  double pixel(double value) const { return pixel_low + (value - low) / (high - low) * (pixel_high - pixel_low); }
  std::vector<double> marks() const {
    std::vector<double> result;
    for (int i = 0; low + i * step <= high + step * 1e-6; ++i) result.push_back(low + i * step);
    return result;
  }
};

Points points_of(std::span<const Measurement> history, std::string_view split) {
  Points result;
  for (const auto& measurement : history) {
    const auto y = measurement.value("bits_per_byte");
    if (measurement.split == split && y && std::isfinite(*y))
      result.push_back({static_cast<double>(measurement.step), *y});
  }
  return result;
}

// At most `count` points, each the mean of a run of neighbours: a long run stays a small file.
Points thin_out(const Points& points, size_t count) {
  const size_t group = std::max<size_t>(1, (points.size() + count - 1) / count);
  Points result;
  for (size_t begin = 0; begin < points.size(); begin += group) {
    const size_t end = std::min(points.size(), begin + group);
    Point mean;
    for (size_t i = begin; i < end; ++i) mean = {mean.x + points[i].x, mean.y + points[i].y};
    result.push_back({mean.x / static_cast<double>(end - begin), mean.y / static_cast<double>(end - begin)});
  }
  return result;
}

// Centred mean over a fortieth of the points: unlike an exponential mean it does not lag behind the steep start.
Points smooth(const Points& points) {
  const auto count = static_cast<int64_t>(points.size()), reach = count / 80;
  Points result = points;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t around = std::min({reach, i, count - 1 - i});
    double sum = 0;
    for (int64_t j = i - around; j <= i + around; ++j) sum += points[static_cast<size_t>(j)].y;
    result[static_cast<size_t>(i)].y = sum / static_cast<double>(2 * around + 1);
  }
  return result;
}

// The upper end of the y axis: the first steps of a run tower over the rest and would flatten it.
double upper_end(const Points& train, const Points& valid) {
  std::vector<double> values;
  for (const Points* points : {&train, &valid})
    for (const Point& p : *points) values.push_back(p.y);
  std::sort(values.begin(), values.end());
  const double last = values[(values.size() - 1) * 97 / 100];
  return std::min(values.back(), std::max(last, 1.6 * values.front()));
}

std::string polyline(const Points& points, const Axis& x, const Axis& y, const char* style) {
  if (points.empty()) return {};
  std::string path;
  for (const Point& p : points) path += format("%.1f,%.1f ", x.pixel(p.x), y.pixel(p.y));
  path.pop_back();
  return "<polyline clip-path=\"url(#plot)\" fill=\"none\" " + std::string(style) + " points=\"" + path + "\"/>\n";
}

std::string grid(const Axis& x, const Axis& y) {
  std::string svg;
  for (const double mark : y.marks()) {
    const double at = y.pixel(mark);
    svg += format("<line x1=\"%g\" x2=\"%g\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#e3e3e3\"/>\n", kLeft, kWidth - kRight,
                  at, at);
    svg += format("<text x=\"%g\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", kLeft - 8, at + 4, mark);
  }
  for (const double mark : x.marks()) {
    const double at = x.pixel(mark);
    svg += format("<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%g\" y2=\"%g\" stroke=\"#999\"/>\n", at, at, kHeight - kBottom,
                  kHeight - kBottom + 5);
    svg += format("<text x=\"%.1f\" y=\"%g\" text-anchor=\"middle\">%g</text>\n", at, kHeight - kBottom + 20, mark);
  }
  svg += format("<path d=\"M%g %g V%g H%g\" fill=\"none\" stroke=\"#666\"/>\n", kLeft, kTop, kHeight - kBottom,
                kWidth - kRight);
  return svg;
}

std::string legend_entry(double y, const char* colour, const std::string& text) {
  const double x = kWidth - kRight - 210;
  return format("<line x1=\"%g\" x2=\"%g\" y1=\"%g\" y2=\"%g\" stroke=\"%s\" stroke-width=\"2.5\"/>\n", x, x + 26, y, y,
                colour) +
         format("<text x=\"%g\" y=\"%g\">", x + 34, y + 4) + text + "</text>\n";
}

}  // namespace

std::string loss_curve_svg(std::span<const Measurement> history, std::string_view title) {
  const Points train = points_of(history, "train"), valid = points_of(history, "valid");
  std::string svg =
      format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" width=\"%g\" height=\"%g\" ", kWidth,
             kHeight, kWidth, kHeight);
  svg +=
      "font-family=\"sans-serif\" font-size=\"13\" fill=\"#333\">\n<rect width=\"100%\" height=\"100%\" "
      "fill=\"white\"/>\n";
  svg += format("<text x=\"%g\" y=\"30\" font-size=\"16\">", kLeft) + escape(title) + "</text>\n";
  if (train.empty() && valid.empty())
    return svg + format("<text x=\"%g\" y=\"%g\">no measurements yet</text>\n</svg>\n", kLeft, kHeight / 2);

  double low = std::numeric_limits<double>::infinity(), last_step = 1;
  for (const Points* points : {&train, &valid})
    for (const Point& p : *points) low = std::min(low, p.y), last_step = std::max(last_step, p.x);
  Axis x = Axis::covering(0, last_step, kLeft, kWidth - kRight, 8);
  x.high = last_step;
  const Axis y = Axis::covering(low, upper_end(train, valid), kHeight - kBottom, kTop, 8);

  const std::string stroke = "stroke-linejoin=\"round\" stroke=\"";
  const Points thin = thin_out(train, 800);
  svg += format("<clipPath id=\"plot\"><rect x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\"/></clipPath>\n", kLeft, kTop,
                kWidth - kLeft - kRight, kHeight - kTop - kBottom);
  svg += grid(x, y);
  svg += polyline(thin, x, y, (stroke + kTrainColour + "\" stroke-opacity=\"0.3\"").c_str());
  svg += polyline(smooth(thin), x, y, (stroke + kTrainColour + "\" stroke-width=\"2\"").c_str());
  svg += polyline(valid, x, y, (stroke + kValidColour + "\" stroke-width=\"2\"").c_str());
  for (const Point& p : valid)
    if (p.y <= y.high)
      svg +=
          format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\" fill=\"%s\"/>\n", x.pixel(p.x), y.pixel(p.y), kValidColour);

  svg += format("<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">step</text>\n", (kLeft + kWidth - kRight) / 2,
                kHeight - 16);
  svg += format("<text transform=\"translate(20 %g) rotate(-90)\" text-anchor=\"middle\">bits per byte</text>\n",
                (kTop + kHeight - kBottom) / 2);
  if (!train.empty()) svg += legend_entry(kTop + 14, kTrainColour, "training (batch, smoothed)");
  if (!valid.empty()) svg += legend_entry(kTop + 36, kValidColour, format("validation (last %.3f)", valid.back().y));
  return svg + "</svg>\n";
}

}  // namespace weft::lm
