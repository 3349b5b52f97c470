#include <weft/examples/lm/tensorboard.h>
#include <weft/tensor/error.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstdio>

namespace weft::lm {
namespace {

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1) ? 0x82F63B78u : 0u);
    table[byte] = remainder;
  }
  return table;
}

template <class Integer>
std::string little_endian(Integer value) {
  std::string bytes;
  for (size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>((value >> (8 * i)) & 0xFF);
  return bytes;
}

// Protobuf's wire format: a key (field number and wire type) before each value.
enum class Wire : uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7F) | 0x80);
  return bytes + static_cast<char>(value);
}

std::string key(uint32_t field, Wire wire) { return varint(field << 3 | static_cast<uint32_t>(wire)); }

std::string bytes_field(uint32_t field, std::string_view bytes) {
  return key(field, Wire::bytes) + varint(bytes.size()) + std::string(bytes);
}

std::string time_field(double seconds) {
  return key(1, Wire::fixed64) + little_endian(std::bit_cast<uint64_t>(seconds));
}

std::string step_field(int64_t step) { return key(2, Wire::varint) + varint(static_cast<uint64_t>(step)); }

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::filesystem::path next_file(const std::filesystem::path& folder) {
  int existing = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    existing += entry.path().filename().string().starts_with("events.out.tfevents.");
  char name[64];
  std::snprintf(name, sizeof name, "events.out.tfevents.%010lld.%04d.weft", static_cast<long long>(now()), existing);
  return folder / name;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr auto table = crc_table();
  uint32_t crc = 0xFFFFFFFFu;
  for (const char c : bytes) crc = (crc >> 8) ^ table[(crc ^ static_cast<uint8_t>(c)) & 0xFF];
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u; }

std::string version_event(double wall_time) { return time_field(wall_time) + bytes_field(3, "brain.Event:2"); }

std::string scalar_event(double wall_time, int64_t step, std::string_view tag, float value) {
  const std::string entry = bytes_field(1, tag) + key(2, Wire::fixed32) + little_endian(std::bit_cast<uint32_t>(value));
  return time_field(wall_time) + step_field(step) + bytes_field(5, bytes_field(1, entry));
}

std::string restart_event(double wall_time, int64_t step) {
  constexpr uint64_t kStart = 1;  // SessionLog.SessionStatus.START
  return time_field(wall_time) + step_field(step) + bytes_field(7, key(1, Wire::varint) + varint(kStart));
}

std::string frame_record(std::string_view payload) {
  const std::string length = little_endian(static_cast<uint64_t>(payload.size()));
  return length + little_endian(masked_crc32c(length)) + std::string(payload) + little_endian(masked_crc32c(payload));
}

EventWriter::EventWriter(const std::filesystem::path& folder, std::optional<int64_t> resume_after)
    : path_(next_file(folder)), out_(path_, std::ios::binary) {
  check(out_.is_open(), "tensorboard: cannot write ", path_.string());
  write(version_event(now()));
  if (resume_after) write(restart_event(now(), *resume_after + 1));
  flush();
}

void EventWriter::scalar(std::string_view tag, double value, int64_t step) {
  write(scalar_event(now(), step, tag, static_cast<float>(value)));
}

void EventWriter::write(const std::string& event) {
  const std::string record = frame_record(event);
  out_.write(record.data(), static_cast<std::streamsize>(record.size()));
}

void EventWriter::flush() {
  out_.flush();
  check(out_.good(), "tensorboard: cannot write ", path_.string());
}

}  // namespace weft::lm
