#include <doctest/doctest.h>
#include <weft/nn/config.h>

#include "support/message_of.h"

using namespace weft;

namespace {

struct InnerConfig {
  int64_t dim = 0;
  double theta = 10000;
};
Fields fields(InnerConfig& c) { return {{"dim", &c.dim}, {"theta", &c.theta}}; }

struct OuterConfig {
  int64_t dim = 4;
  bool causal = false;
  std::string norm = "layer";
  std::optional<double> dropout;
  std::vector<int64_t> sizes = {1, 2};
  std::optional<InnerConfig> inner;
};
Fields fields(OuterConfig& c) {
  return {{"dim", &c.dim},         {"causal", &c.causal}, {"norm", &c.norm},
          {"dropout", &c.dropout}, {"sizes", &c.sizes},   {"inner", &c.inner}};
}

// What reading a Config's options from this JSON says is wrong.
template <class Config>
std::string complaint(const std::string& json, const char* owner) {
  return test::message_of([&] { config_from_json<Config>(json, owner); });
}

}  // namespace

TEST_CASE("config: fields are written in order and read back") {
  CHECK(config_to_json(OuterConfig{}) ==
        R"({"dim":4,"causal":false,"norm":"layer","dropout":null,"sizes":[1,2],"inner":null})");
  OuterConfig c{
      .dim = 7, .causal = true, .norm = "a \"b\"", .dropout = 0.1, .sizes = {}, .inner = InnerConfig{.dim = 3}};
  const std::string json = config_to_json(c);
  CHECK(config_to_json(config_from_json<OuterConfig>(json, "Outer")) == json);
}

TEST_CASE("config: what JSON leaves out keeps its default, and null empties an option") {
  const auto c = config_from_json<OuterConfig>(R"({"inner": {"class": "Inner", "dim": 5}, "dropout": 1})", "Outer");
  CHECK(c.dim == 4);
  CHECK(*c.dropout == 1.0);
  CHECK(c.inner->dim == 5);
  CHECK(c.inner->theta == 10000);
  CHECK_FALSE(config_from_json<OuterConfig>(R"({"inner": null})", "Outer").inner.has_value());
}

TEST_CASE("config: errors name the option") {
  const auto error = [](const std::string& text) { return complaint<OuterConfig>(text, "Outer"); };
  CHECK(error(R"({"dims": 3})") == "Outer: no option called dims; it has dim, causal, norm, dropout, sizes, inner");
  CHECK(error(R"({"dim": 3.5})") == "Outer: option dim must be an integer, got 3.5");
  CHECK(error(R"({"dim": 18446744073709551615})") == "Outer: option dim must be an integer, got 18446744073709551615");
  CHECK(error(R"({"causal": 1})") == "Outer: option causal must be true or false, got 1");
  CHECK(error(R"({"norm": null})") == "Outer: option norm must be a string, got null");
  CHECK(error(R"({"sizes": [1, "2"]})") == "Outer: option sizes must be a list of integers, got a list");
  CHECK(error(R"({"inner": {"dims": 3}})") == "Outer.inner: no option called dims; it has dim, theta");
  CHECK(error(R"({"inner": 3})") == "Outer.inner: expected a JSON object of options, got 3");
  CHECK(error("[]") == "Outer: expected a JSON object of options, got a list");
  CHECK(error("{").rfind("Outer: options are not JSON: ", 0) == 0);
  CHECK(error(std::string(100000, '[') + std::string(100000, ']')) ==
        "Outer: expected a JSON object of options, got a list");
}

namespace {

struct ListsConfig {
  OneOrEach<int64_t> shift = 0;
  OneOrEach<double> dropout = {0.1, 0.2};
  NamedIntegers vocabularies = {{"note", 3}};
  std::vector<std::string> layers = {"a"};
  std::optional<bool> maybe;
};
Fields fields(ListsConfig& c) {
  return {{"shift", &c.shift},
          {"dropout", &c.dropout},
          {"vocabularies", &c.vocabularies},
          {"layers", &c.layers},
          {"maybe", &c.maybe}};
}

}  // namespace

TEST_CASE("config: one value for all or one each, names with numbers, lists of text") {
  CHECK(config_to_json(ListsConfig{}) ==
        R"({"shift":0,"dropout":[0.1,0.2],"vocabularies":{"note":3},"layers":["a"],"maybe":null})");
  const std::string json =
      R"({"shift":[1,0],"dropout":0.5,"vocabularies":{"b":2,"a":1},"layers":["a","f"],"maybe":true})";
  const auto c = config_from_json<ListsConfig>(json, "Lists");
  CHECK(config_to_json(c) == json);
  CHECK(c.shift.at(1, 2, "shift") == 0);
  CHECK(c.dropout.at(7, 9, "dropout") == 0.5);
  CHECK_THROWS_WITH_AS(c.shift.at(0, 3, "shift"), "option shift: expected 1 or 3 values, got 2", Error);
  const auto error = [](const std::string& text) { return complaint<ListsConfig>(text, "Lists"); };
  CHECK(error(R"({"shift": 0.5})") == "Lists: option shift must be an integer or a list of integers, got 0.5");
  CHECK(error(R"({"vocabularies": {"a": "b"}})") ==
        "Lists: option vocabularies must be an object of integers, got an object");
}
