// The run folder's files: TensorBoard events byte for byte, metrics that survive a kill, the loss curve, atomic writes.
#include <doctest/doctest.h>
#include <weft/examples/lm/atomic_file.h>
#include <weft/examples/lm/metrics.h>
#include <weft/examples/lm/progress.h>
#include <weft/examples/lm/tensorboard.h>
#include <weft/tensor/error.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "support/temporary_folder.h"

using namespace weft;
using namespace weft::lm;
using namespace weft::test;
namespace fs = std::filesystem;

namespace {

std::string contents(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string hex(std::string_view bytes) {
  std::string result;
  for (const char c : bytes) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(c));
    result += digits;
  }
  return result;
}

Measurement measured(int64_t step, const char* split, double bits) {
  return {.step = step, .split = split, .values = {{"bits_per_byte", bits}}};
}

}  // namespace

TEST_CASE("crc32c gives the vectors of RFC 3720") {
  CHECK(crc32c("") == 0u);
  CHECK(crc32c("123456789") == 0xE3069283u);
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AAu);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62A8AB43u);
}

TEST_CASE("TensorBoard events are the bytes that protobuf and TFRecord prescribe") {
  // Time 1.5 s (0x3FF8…), then file_version; step 300 is the varint ac 02; "loss" = 2.5f.
  CHECK(hex(version_event(1.5)) == "09000000000000f83f1a0d627261696e2e4576656e743a32");
  CHECK(hex(scalar_event(1.5, 300, "loss", 2.5f)) == "09000000000000f83f10ac022a0d0a0b0a046c6f73731500002040");
  CHECK(hex(restart_event(1.5, 7)) == "09000000000000f83f10073a020801");
  const std::string record = frame_record("abc");
  CHECK(hex(record.substr(0, 8)) == "0300000000000000");
  CHECK(hex(record.substr(12, 3)) == "616263");
  CHECK(hex(record.substr(15)) == "6e57f121");
  CHECK(record.size() == 8 + 4 + 3 + 4);
}

TEST_CASE("a resumed run gets a later event file that declares the steps after the checkpoint void") {
  TemporaryFolder folder;
  EventWriter first(folder.path());
  first.scalar("loss", 1.0, 1);
  EventWriter second(folder.path(), 10);
  CHECK(first.path().filename().string().starts_with("events.out.tfevents."));
  CHECK(first.path() < second.path());
  const std::string bytes = contents(second.path());
  CHECK(bytes.find("brain.Event:2") != std::string::npos);
  CHECK(bytes.find(std::string("\x10\x0b\x3a\x02\x08\x01", 6)) != std::string::npos);  // step 11, START
  CHECK_THROWS_AS(EventWriter(folder / "none"), std::exception);
}

TEST_CASE("metrics.jsonl keeps each step once when a run is killed and resumed") {
  TemporaryFolder folder;
  const fs::path path = folder / "metrics.jsonl";
  {
    MetricsLog log(path, {});
    for (int step = 1; step <= 5; ++step) log.append(measured(step, "train", 8.0 / step));
  }
  std::ofstream(path, std::ios::app) << R"({"step":6,"spl)";  // cut off by the kill
  MetricsLog log(path, 3);
  CHECK(log.history().size() == 3);
  log.append({.step = 4, .split = "valid", .values = {{"loss", std::nan("")}, {"tokens", 4096}}});
  log.sync();
  CHECK(contents(path) ==
        "{\"step\":1,\"split\":\"train\",\"bits_per_byte\":8}\n"
        "{\"step\":2,\"split\":\"train\",\"bits_per_byte\":4}\n"
        "{\"step\":3,\"split\":\"train\",\"bits_per_byte\":2.6666666666666665}\n"
        "{\"step\":4,\"split\":\"valid\",\"loss\":null,\"tokens\":4096}\n");
  CHECK(MetricsLog(path, {}).history().empty());
  CHECK(contents(path).empty());
}

TEST_CASE("the loss curve shows both series, escapes its title and survives odd data") {
  std::vector<Measurement> history;
  for (int step = 1; step <= 3000; ++step) history.push_back(measured(step, "train", 2 + 6.0 / step));
  history.push_back(measured(1500, "valid", 2.5));
  history.push_back(measured(3000, "valid", 2.125));
  history.push_back(measured(3000, "valid", std::nan("")));
  const std::string svg = loss_curve_svg(history, "a < b & c");
  CHECK(svg.starts_with("<svg "));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(svg.find("a &lt; b &amp; c") != std::string::npos);
  CHECK(svg.find("validation (last 2.125)") != std::string::npos);
  CHECK(svg.find("training") != std::string::npos);
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(svg.size() < 40'000);
  CHECK(loss_curve_svg({}, "empty").find("no measurements yet") != std::string::npos);
  CHECK(loss_curve_svg(std::vector{measured(1, "train", 3.0)}, "one").find("nan") == std::string::npos);
}

TEST_CASE("atomic writes replace the whole and leave no temporary name") {
  TemporaryFolder folder;
  write_file_atomically(folder / "a", "one");
  write_file_atomically(folder / "a", "two");
  CHECK(contents(folder / "a") == "two");
  const auto fill = [](const std::string& text) {
    return [text](const fs::path& into) { std::ofstream(into / text) << text; };
  };
  write_folder_atomically(folder / "f", fill("old"));
  write_folder_atomically(folder / "f", fill("new"));
  CHECK(!fs::exists(folder / "f" / "old"));
  CHECK(contents(folder / "f" / "new") == "new");
  // A writer that fails leaves the old folder as it was, and its own leavings are recognised and replaced later.
  CHECK_THROWS(write_folder_atomically(folder / "f", [](const fs::path&) { throw Error("disk full"); }));
  CHECK(contents(folder / "f" / "new") == "new");
  CHECK(is_temporary(folder / "f.tmp"));
  write_folder_atomically(folder / "f", fill("third"));
  CHECK(!fs::exists(folder / "f.tmp"));
  CHECK_THROWS_AS(write_file_atomically(folder / "none" / "a", ""), Error);
}

TEST_CASE("progress: plain lines where there is no terminal") {
  TemporaryFolder folder;
  const fs::path path = folder / "stderr";
  {
    std::FILE* file = std::fopen(path.c_str(), "w");
    Progress progress(file, 200);
    CHECK(!progress.on_terminal());
    progress.update(1, 0.005, 8.0, 1000, -1, false);
    progress.update(10, 0.05, 3.25, 15300, 65, true);
    progress.message("validation 3.300 bits per byte");
    std::fclose(file);
  }
  CHECK(contents(path) == "step 10/200  3.250 bits/byte  15.3k tokens/s  1:05 left\nvalidation 3.300 bits per byte\n");
  CHECK(clock_text(3725) == "1:02:05");
  CHECK(count_text(1.2e6) == "1.20M");
  CHECK(bar_text(0.5, 4) == "██  ");
  CHECK(bar_text(1.0, 4) == "████");
}
