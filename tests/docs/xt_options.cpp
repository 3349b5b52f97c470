// weft_xt_options: prints docs/xt_options.md, the table of x-transformers' options, from the list that the config
// structs are made of. weft_xt_options --check FILE compares FILE with it instead; exit status 1 where they differ or a
// row names a file that does not exist.
//
//   weft_xt_options > docs/xt_options.md
#include <weft/nn/xt/options.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

using namespace weft::xt;

namespace {

std::string replaced(const std::string& s, const char* pattern, const char* by) {
  return std::regex_replace(s, std::regex(pattern), by);
}

std::string type(const OptionRow& r) {
  const std::string t = replaced(replaced(r.type, "std::", ""), "int64_t", "int64");
  return "`" + t + "`";
}

std::string default_value(const OptionRow& r) {
  if (r.default_value != "{}") return r.default_value;
  return r.type.find("optional") != std::string::npos ? "none" : "empty";
}

// Sources become links; | would end a cell.
std::string doc(const OptionRow& r) {
  std::string s = replaced(r.doc, "\\|", "\\|");
  s = replaced(s, "arXiv:([0-9.]*[0-9])", "[$&](https://arxiv.org/abs/$1)");
  s = replaced(s, "doi:([^ )]*)", "[$&](https://doi.org/$1)");
  return replaced(s, "openreview ([A-Za-z0-9]+)", "[$&](https://openreview.net/forum?id=$1)");
}

void section(std::ostream& out, const char* title, const char* text, const std::string& prefix,
             const std::vector<OptionRow>& rows) {
  out << "\n## " << title << "\n\n" << text << "\n\n";
  out << "| option | type | default | what it does | file |\n| --- | --- | --- | --- | --- |\n";
  for (const OptionRow& r : rows) {
    const std::string file = std::filesystem::path(r.file).filename().string();
    out << "| `" << prefix << r.name << "` | " << type(r) << " | " << default_value(r) << " | " << doc(r) << " | ["
        << file << "](../" << r.file << ") |\n";
  }
}

std::string page() {
  std::ostringstream out;
  out << "# Options of x-transformers\n\n"
         "Written by `weft_xt_options` from the option list in [nn/xt/options.h](../nn/xt/options.h); the tests fail "
         "where "
         "the two\ndiffer. How the parts work together: [xt.md](xt.md).\n\n"
         "`Encoder`, `Decoder`, `PrefixDecoder` and `CrossAttender` take those of the layers, of attention and of "
         "feed-forwards after "
         "`dim`, `depth`\nand `heads`; `XTransformer` takes them twice, with `enc_` and `dec_` in front. Those of "
         "wrappers "
         "that have no table here stand beside\ntheir classes.\n";
  out << "\nCapital letters are learned matrices; w and g are learned vectors; x is what a sublayer reads, out what it "
         "gives; q, k, "
         "v are\nqueries, keys and values, y the weighted sums of values.\n";
  section(out, "The layers", "Which sublayers there are, and what happens between them.", "",
          attention_layers_options());
  section(
      out, "Attention",
      "With `cross_attn_` in place of `attn_` an option is for cross-attention alone. `Attention` itself takes them "
      "without `attn_`.\n\n"
      "Two options are functions: `attn_custom_attn_fn` makes the weights from the scores in place of a softmax "
      "([attend.h](../nn/xt/attend.h)), and\n`attn_hybrid_module` makes a module that runs beside attention and is "
      "mixed "
      "with its heads ([attention.h](../nn/xt/attention.h)).",
      "attn_", attention_options());
  section(out, "Feed-forward", "`FeedForward` itself takes them without `ff_`.", "ff_", feed_forward_options());
  const std::string wrappers = "Beside `attn_layers`, the layers themselves";
  section(out, "TransformerWrapper",
          (wrappers + ", and the modules `token_emb` and `to_logits` in place of its own.").c_str(), "",
          transformer_wrapper_options());
  section(out, "MultiInputTransformerWrapper", (wrappers + ".").c_str(), "", multi_input_options());
  section(out, "ContinuousTransformerWrapper", (wrappers + ".").c_str(), "", continuous_options());
  section(out, "XValTransformerWrapper", (wrappers + ".").c_str(), "", xval_options());
  section(out, "ViTransformerWrapper", (wrappers + ".").c_str(), "", vit_options());
  return out.str();
}

// Lines that differ, and files that are not there.
int check(const std::filesystem::path& path) {
  int wrong = 0;
  std::ifstream file(path);
  std::istringstream want(page());
  std::string is, should;
  for (int line = 1;; ++line) {
    const bool more = static_cast<bool>(std::getline(file, is)),
               expected = static_cast<bool>(std::getline(want, should));
    if (!more && !expected) break;
    if (more && expected && is == should) continue;
    std::printf("%s:%d is\n  %s\nbut should be\n  %s\nwrite it anew: weft_xt_options > docs/xt_options.md\n",
                path.c_str(), line, more ? is.c_str() : "(the end)", expected ? should.c_str() : "(the end)");
    ++wrong;
    break;
  }
  for (const auto& rows :
       {attention_layers_options(), attention_options(), feed_forward_options(), transformer_wrapper_options(),
        multi_input_options(), continuous_options(), xval_options(), vit_options()})
    for (const OptionRow& r : rows) {
      if (std::filesystem::exists(path.parent_path() / ".." / r.file)) continue;
      std::printf("%s: there is no file %s\n", r.name.c_str(), r.file.c_str()), ++wrong;
    }
  return wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--check") return check(argv[2]);
  if (argc != 1) return std::fprintf(stderr, "usage: weft_xt_options [--check FILE]\n"), 2;
  std::fputs(page().c_str(), stdout);
}
