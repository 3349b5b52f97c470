#include <doctest/doctest.h>
#include <weft/ops/create.h>
#include <weft/ops/shape.h>
#include <weft/tensor/file.h>
#include <weft/tensor/safetensors.h>
#include <weft/weft.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "support/message_of.h"
#include "support/temporary_folder.h"

namespace weft {
namespace {

using test::TemporaryFolder;

std::string file_of(const std::string& header, const std::string& data = "") {
  const uint64_t n = header.size();
  return std::string(reinterpret_cast<const char*>(&n), 8) + header + data;
}

std::string refusal(const std::string& bytes) {
  return test::message_of([&] { const SafetensorsFile file(bytes, nullptr, "f"); });
}

// One float32 tensor of two elements, with a field replaced.
std::string refusal_of_tensor(const std::string& fields, const std::string& data = "12345678") {
  return refusal(file_of("{\"w\":{" + fields + "}}", data));
}

bool same_values(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() && a.to_vector<double>() == b.to_vector<double>();
}

TEST_CASE("safetensors: round trip of every dtype, layout and size") {
  const DefaultDevice host(Device::cpu());
  const TemporaryFolder folder;
  const std::string path = folder / "all.safetensors";
  NamedTensors tensors;
  for (int i = 0; i < 8; ++i) {
    const auto dtype = static_cast<DType>(i);
    const Tensor x = arange(6).to(dtype).reshape({2, 3});
    tensors.emplace_back(concat("x.", name(dtype)), x);
    tensors.emplace_back(concat("transposed.", name(dtype)), x.t());
    tensors.emplace_back(concat("scalar.", name(dtype)), x[1][2]);
    tensors.emplace_back(concat("empty.", name(dtype)), zeros({3, 0, 2}, {.dtype = dtype}));
  }
  tensors.emplace_back("", ones({1}));
  tensors.emplace_back("quotes \" and \\, ü, \n", ones({1}));
  const std::map<std::string, std::string> metadata{{"format", "pt"}, {"text", "line\nline \"2\""}};
  save_safetensors(path, tensors, metadata);

  std::map<std::string, std::string> read_metadata;
  const NamedTensors read = load_safetensors(path, Device::cpu(), &read_metadata);
  CHECK(read_metadata == metadata);
  REQUIRE(read.size() == tensors.size());
  for (size_t i = 0; i < read.size(); ++i) {
    CAPTURE(tensors[i].first);
    CHECK(read[i].first == tensors[i].first);
    CHECK(same_values(read[i].second, tensors[i].second));
    CHECK(read[i].second.is_contiguous());
  }
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);  // nothing temporary is left

  const SafetensorsFile file(path);
  CHECK(file.names().size() == tensors.size());
  CHECK(file.contains("x.int32"));
  CHECK(!file.contains("x.int16"));
  CHECK(file.dtype("x.int32") == int32);
  CHECK(file.shape("empty.bool") == Shape{3, 0, 2});
  CHECK_THROWS_WITH_AS(file.tensor("x"), concat("safetensors: ", path, ": no tensor 'x'").c_str(), Error);
}

TEST_CASE("safetensors: no tensors at all, with and without metadata") {
  const DefaultDevice host(Device::cpu());
  const TemporaryFolder folder;
  save_safetensors(folder / "a", {});
  CHECK(load_safetensors(folder / "a").empty());
  save_safetensors(folder / "b", {}, {{"a", "b"}});
  CHECK(SafetensorsFile(folder / "b").metadata().at("a") == "b");
}

TEST_CASE("safetensors: tensors view the mapping, outlive the file object and refuse writes") {
  const DefaultDevice host(Device::cpu());
  const TemporaryFolder folder;
  const std::string path = folder / "w";
  save_safetensors(path, {{"w", arange(4).to(float32)}});
  Tensor w = load_safetensors(path)[0].second;
  CHECK(w.impl().storage->read_only());
  save_safetensors(path, {{"w", zeros({4})}});  // a new file takes the name; the old one stays mapped
  CHECK(w.to_vector() == std::vector<float>{0, 1, 2, 3});
  CHECK_THROWS_WITH_AS(w.zero_(), "fill_: the tensor lies in read-only memory (a mapped file); clone it first", Error);
  CHECK(w.clone().zero_().to_vector() == std::vector<float>(4, 0.f));
}

TEST_CASE("safetensors: misaligned data and bools other than 0 and 1 are copied") {
  const DefaultDevice host(Device::cpu());
  const std::string header =
      R"({"b":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]},"w":{"dtype":"F32","shape":[2],"data_offsets":[3,11]}})";
  const float values[] = {1.5f, -2.f};
  const std::string bytes =
      file_of(header, std::string("\x00\x01\x80", 3) + std::string(reinterpret_cast<const char*>(values), 8));
  for (size_t shift = 0; shift < 4; ++shift) {  // one of these is aligned
    const std::string moved = std::string(shift, ' ') + bytes;
    const SafetensorsFile file(std::string_view(moved).substr(shift), nullptr);
    CHECK(file.tensor("w").to_vector() == std::vector<float>{1.5f, -2.f});
    const Tensor b = file.tensor("b");
    CHECK(b.to_vector<bool>() == std::vector<bool>{false, true, true});
    CHECK(std::memcmp(b.raw_data(), "\x00\x01\x01", 3) == 0);
  }
}

TEST_CASE("safetensors: broken files are refused with a reason") {
  const DefaultDevice host(Device::cpu());
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  CHECK(refusal_of_tensor(good) == "");

  SUBCASE("length and header") {
    CHECK(refusal("") == "safetensors: f: 0 bytes are too short for a header");
    CHECK(refusal("1234567") == "safetensors: f: 7 bytes are too short for a header");
    CHECK(refusal(std::string("\x09\0\0\0\0\0\0\0{}", 10)) ==
          "safetensors: f: the header claims 9 bytes, the file has 2 after its length");
    CHECK(refusal(std::string(8, '\xff')) ==
          "safetensors: f: the header claims 18446744073709551615 bytes, more than 100000000");
    CHECK(refusal(file_of("")) == "safetensors: f: the header does not start with '{'");
    CHECK(refusal(file_of("[]")) == "safetensors: f: the header does not start with '{'");
    CHECK(refusal(file_of("\xef\xbb\xbf{}")) == "safetensors: f: the header does not start with '{'");
    CHECK(refusal(file_of("{")) == "safetensors: f: the header is not valid JSON at byte 2");
    CHECK(refusal(file_of("{} x")) == "safetensors: f: the header is not valid JSON at byte 4");
    CHECK(refusal(file_of(std::string("{}\0", 3))) == "safetensors: f: the header is not valid JSON at byte 3");
    CHECK(refusal(file_of("{\"\xff\":{}}")) == "safetensors: f: the header is not valid JSON at byte 3");
    CHECK(refusal(file_of("{}  \n")) == "");
  }
  SUBCASE("structure") {
    CHECK(refusal(file_of(R"({"w":3})")) == "safetensors: f: tensor 'w' is not described by an object");
    CHECK(refusal(file_of(R"({"w":[]})")) == "safetensors: f: tensor 'w' is not described by an object");
    CHECK(refusal(file_of("{\"w\":" + std::string(1 << 20, '['))) ==
          "safetensors: f: tensor 'w' is not described by an object");
    CHECK(refusal_of_tensor("\"shape\":" + std::string(1 << 20, '[')) ==
          "safetensors: f: tensor 'w': shape is not a list of sizes");
    CHECK(refusal(file_of("{" + std::string(1000, '{'))) == "safetensors: f: the header is not valid JSON at byte 2");
    CHECK(refusal(file_of("{\"w\":{" + good + "},\"w\":{" + good + "}}", "12345678")) ==
          "safetensors: f: duplicate name 'w'");
    CHECK(refusal(file_of(R"({"__metadata__":{},"__metadata__":{}})")) ==
          "safetensors: f: duplicate name '__metadata__'");
    CHECK(refusal(file_of(R"({"__metadata__":[]})")) == "safetensors: f: __metadata__ is not an object");
    CHECK(refusal(file_of(R"({"__metadata__":{"a":1}})")) == "safetensors: f: metadata 'a' is not a string");
    CHECK(refusal(file_of(R"({"__metadata__":{"a":null}})")) == "safetensors: f: metadata 'a' is not a string");
    CHECK(refusal(file_of(R"({"__metadata__":{"a":{}}})")) == "safetensors: f: metadata 'a' is not a string");
    CHECK(refusal(file_of(R"({"__metadata__":{"a":"1","a":"2"}})")) == "safetensors: f: duplicate metadata 'a'");
  }
  SUBCASE("fields") {
    CHECK(refusal_of_tensor("") == "safetensors: f: tensor 'w': no dtype");
    CHECK(refusal_of_tensor(R"("dtype":"F32","shape":[2])") == "safetensors: f: tensor 'w': no data_offsets");
    CHECK(refusal_of_tensor(good + R"(,"shape":[2])") == "safetensors: f: tensor 'w': duplicate field 'shape'");
    CHECK(refusal_of_tensor(good + R"(,"stride":[1])") == "safetensors: f: tensor 'w': unknown field 'stride'");
    CHECK(refusal_of_tensor(R"("dtype":7)") == "safetensors: f: tensor 'w': dtype is not a string");
    CHECK(refusal_of_tensor(R"("dtype":["F32"])") == "safetensors: f: tensor 'w': dtype is not a string");
    CHECK(refusal_of_tensor(R"("dtype":"C64")") == "safetensors: f: tensor 'w': unsupported dtype 'C64'");
    CHECK(refusal_of_tensor(R"("shape":2)") == "safetensors: f: tensor 'w': shape is not a list of sizes");
    CHECK(refusal_of_tensor(R"("shape":[-2])") == "safetensors: f: tensor 'w': shape is not a list of sizes");
    CHECK(refusal_of_tensor(R"("shape":[2.0])") == "safetensors: f: tensor 'w': shape is not a list of sizes");
    CHECK(refusal_of_tensor(R"("shape":[9223372036854775808])") ==
          "safetensors: f: tensor 'w': shape is not a list of sizes");
    CHECK(refusal_of_tensor(R"("shape":[1,1,1,1,1,1,1,1,1,1,1,1,1])") ==
          "safetensors: f: tensor 'w': more than 12 dimensions");
    CHECK(refusal_of_tensor(R"("data_offsets":[0])") ==
          "safetensors: f: tensor 'w': data_offsets is not a pair of positions");
    CHECK(refusal_of_tensor(R"("data_offsets":[0,8,8])") ==
          "safetensors: f: tensor 'w': data_offsets is not a pair of positions");
    CHECK(refusal_of_tensor(R"("data_offsets":[-8,0])") ==
          "safetensors: f: tensor 'w': data_offsets is not a pair of positions");
  }
  SUBCASE("sizes") {
    const auto with = [](const std::string& shape, const std::string& offsets) {
      return refusal_of_tensor("\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":" + offsets);
    };
    CHECK(with("[2]", "[0,12]") == "safetensors: f: tensor 'w': data_offsets [0, 12] do not lie in 8 bytes of data");
    CHECK(with("[2]", "[8,0]") == "safetensors: f: tensor 'w': data_offsets [8, 0] do not lie in 8 bytes of data");
    CHECK(with("[0]", "[18446744073709551615,18446744073709551615]") ==
          "safetensors: f: tensor 'w': data_offsets [18446744073709551615, 18446744073709551615] do not lie in 8 bytes "
          "of data");
    CHECK(with("[3]", "[0,8]") ==
          "safetensors: f: tensor 'w': float32 of shape [3] takes 12 bytes, data_offsets give it 8");
    CHECK(with("[4611686018427387904,4]", "[0,8]") ==
          "safetensors: f: tensor 'w': shape [4611686018427387904, 4] has too many elements");
    CHECK(with("[0,4611686018427387904,4]", "[0,0]") ==
          "safetensors: f: tensor 'w': shape [0, 4611686018427387904, 4] has too many elements");
    CHECK(with("[1]", "[0,4]") == "safetensors: f: bytes 4 to 8 of the data belong to no tensor");
    CHECK(with("[1]", "[4,8]") == "safetensors: f: bytes 0 to 4 of the data belong to no tensor");
    CHECK(with("[]", "[0,8]") ==
          "safetensors: f: tensor 'w': float32 of shape [] takes 4 bytes, data_offsets give it 8");
    const auto two = [](const std::string& a, const std::string& b) {
      const std::string u8 = "\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":";
      return refusal(file_of("{\"a\":{" + u8 + a + "},\"b\":{" + u8 + b + "}}", "0123456789"));
    };
    CHECK(two("[0,5]", "[5,10]") == "");
    CHECK(two("[5,10]", "[0,5]") == "");
    CHECK(two("[4,9]", "[0,5]") == "safetensors: f: tensor 'a': its data overlaps another tensor's at byte 4");
    CHECK(two("[0,5]", "[0,5]") == "safetensors: f: tensor 'b': its data overlaps another tensor's at byte 0");
  }
}

TEST_CASE("safetensors: every prefix of a file and every changed byte is refused or read, never more") {
  const DefaultDevice host(Device::cpu());
  const std::string good =
      file_of(R"({"__metadata__":{"k":"v"},"a":{"dtype":"I64","shape":[1,2],"data_offsets":[0,16]},)"
              R"("b":{"dtype":"BOOL","shape":[],"data_offsets":[16,17]}})",
              std::string(17, '\1'));
  REQUIRE(refusal(good) == "");
  for (size_t n = 0; n < good.size(); ++n) CHECK(refusal(good.substr(0, n)) != "");
  for (size_t i = 0; i < good.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = good;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      try {
        const SafetensorsFile file(changed, nullptr);
        for (const std::string& name : file.names()) (void)file.tensor(name).to_vector<double>();
      } catch (const Error&) {
      }
    }
  }
}

TEST_CASE("safetensors: what cannot be written is refused before the old file is touched") {
  const DefaultDevice host(Device::cpu());
  const TemporaryFolder folder;
  const std::string path = folder / "kept";
  save_safetensors(path, {{"old", ones({2})}});
  CHECK_THROWS_WITH_AS(save_safetensors(path, {{"a", ones({1})}, {"a", ones({1})}}),
                       "save_safetensors: duplicate name 'a'", Error);
  CHECK_THROWS_WITH_AS(save_safetensors(path, {{"a", Tensor()}}), "save_safetensors: tensor 'a' is undefined", Error);
  CHECK_THROWS_WITH_AS(save_safetensors(path, {{"__metadata__", ones({1})}}),
                       "save_safetensors: a tensor cannot be named '__metadata__'", Error);
  CHECK_THROWS_WITH_AS(save_safetensors(path, {{"\xff", ones({1})}}), "save_safetensors: not UTF-8: '\xff'", Error);
  CHECK(load_safetensors(path)[0].first == "old");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("files: what cannot be opened, and an output that is not committed") {
  const DefaultDevice host(Device::cpu());
  const TemporaryFolder folder;
  const std::string missing = folder / "missing", inside = folder / "no/such/folder";
  CHECK_THROWS_WITH_AS(load_safetensors(missing),
                       concat("file: cannot open ", missing, ": No such file or directory").c_str(), Error);
  CHECK_THROWS_WITH_AS(load_safetensors(folder.path().string()),
                       concat("file: ", folder.path().string(), " is not a regular file").c_str(), Error);
  CHECK_THROWS_WITH_AS(save_safetensors(inside, {}),
                       concat("file: cannot write ", inside, ": No such file or directory").c_str(), Error);
  {
    OutputFile file(folder / "half");
    file.write("some of it");
  }
  CHECK(std::filesystem::is_empty(folder.path()));
  std::ofstream(folder / "empty").close();
  CHECK_THROWS_WITH_AS(
      load_safetensors(folder / "empty"),
      concat("safetensors: ", (folder / "empty").string(), ": 0 bytes are too short for a header").c_str(), Error);
}

}  // namespace
}  // namespace weft
