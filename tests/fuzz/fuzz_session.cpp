#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/tiny_answers.hpp"
#include "format/checksum.hpp"
#include "fuzz_input.hpp"
#include "gemlet/gemlet.hpp"
#include "session_edits.hpp"
#include "tiny_gemma3.hpp"
#include "tiny_gemma3n.hpp"
#include "try_model.hpp"

// Edited session files (session_edits.hpp) with the right checksum: refused with an Error, or restored, and then the
// session computes, answers, is saved and comes back.
namespace {

using gemlet::Error;
using gemlet::Session;

constexpr int context = 64;

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The last 8 bytes are the checksum of all before.
void fix_checksum(std::string& file) {
  constexpr std::size_t size = sizeof(std::uint64_t);
  if (file.size() < size) return;
  file.resize((file.size() - size) / gemlet::Checksum::block * gemlet::Checksum::block + size);
  gemlet::Checksum sum;
  sum.add(std::as_bytes(std::span(file)).first(file.size() - size));
  const std::uint64_t value = sum.value();
  std::memcpy(file.data() + file.size() - size, &value, size);
}

struct Saved {
  std::shared_ptr<const gemlet::Engine> engine;
  std::string file;
};

class World {
 public:
  World() {
    const auto gemma3 = load("gemma3.gguf", tiny::gemma3().build().bytes, gemlet::CacheType::int8);
    const auto gemma3n = load("gemma3n.gguf", tiny::gemma3n(tiny::smallest()).build().bytes, gemlet::CacheType::f16);
    Session session(gemma3);
    keep(fuzz::empty_session, gemma3, session);
    session.prefill(tiny::prompt(30));
    keep(fuzz::with_logits, gemma3, session);
    session.rewind(9);
    keep(fuzz::rewound, gemma3, session);
    Session pictured(gemma3);
    gemlet::Prompt prompt(tiny::prompt(12));
    const auto width = static_cast<std::size_t>(gemma3->info().hidden_size);
    for (const std::size_t begin : {2U, 7U}) {
      prompt.media.push_back({begin, 3, {begin, 1}, std::make_shared<std::vector<float>>(3 * width, 0.5F)});
    }
    pictured.prefill(prompt);
    keep(fuzz::with_media, gemma3, pictured);
    Session other(gemma3n);
    other.prefill(tiny::prompt(11));
    keep(fuzz::other_model, gemma3n, other);
  }

  const Saved& base(std::size_t index) const { return bases_[index]; }
  const MemoryFile& file() const { return file_; }
  std::filesystem::path scratch() const { return directory_.path() / "again"; }

 private:
  std::shared_ptr<const gemlet::Engine> load(const char* name, const std::string& bytes, gemlet::CacheType cache) {
    gemlet::EngineOptions options;
    options.threads = 1;
    options.context = context;
    options.chunk = 4;
    options.cache = cache;
    return gemlet::Engine::load(directory_.write(name, bytes), options);
  }

  /// A session that is saved and whose file, its checksum computed here, restores: otherwise every mutant of it would
  /// be refused for the same reason.
  void keep(std::size_t index, const std::shared_ptr<const gemlet::Engine>& engine, const Session& session) {
    session.save(scratch());
    std::string bytes = bytes_of(scratch());
    const std::string before = bytes;
    fix_checksum(bytes);
    fuzz::expect(bytes == before, "the checksum is where fix_checksum() puts it");
    bases_[index] = {engine, bytes};
  }

  gguf::TemporaryDirectory directory_;
  MemoryFile file_;
  std::array<Saved, fuzz::bases> bases_;
};

/// A place in a file that is not empty.
std::size_t place(fuzz::Input& input, const std::string& file) {
  constexpr std::size_t header = 128;
  const std::size_t range = input.below(fuzz::ranges);
  const std::size_t offset = input.number(2);
  if (range == fuzz::in_header) return offset * 2 % std::min(header, file.size());
  return range == fuzz::at_end ? file.size() - 1 - offset % file.size() : offset * 4 % file.size();
}

void set(std::string& file, std::size_t at, std::size_t size, fuzz::Input& input) {
  size = std::min(size, file.size() - at);
  std::uint64_t value = 0;
  std::memcpy(&value, file.data() + at, size);
  value = input.hostile(value);
  std::memcpy(file.data() + at, &value, size);
}

void edit(std::string& file, fuzz::Input& input) {
  constexpr std::size_t block = gemlet::Checksum::block;
  const std::size_t kind = input.below(fuzz::edits);
  const std::size_t at = place(input, file);
  const std::size_t begin = at / block * block;
  switch (kind) {
    case fuzz::set_8_bytes:
      return set(file, at, 8, input);
    case fuzz::set_4_bytes:
      return set(file, at, 4, input);
    case fuzz::set_2_bytes:
      return set(file, at, 2, input);
    case fuzz::flip_bit:
      file[at] = static_cast<char>(file[at] ^ (1 << input.below(8)));
      return;
    case fuzz::insert_block:
      file.insert(begin, block * (1 + input.below(8)), static_cast<char>(input.byte()));
      return;
    case fuzz::erase_block:
      file.erase(begin, block * (1 + input.below(8)));
      return;
    case fuzz::copy_block:
      file.replace(begin, block, file.substr(place(input, file) / block * block, block));
      return;
    default:
      file.resize(at);
  }
}

/// Everything that a session is for. A cache may hold numbers whose logits are none: that is an Error.
void use(Session& session, const Saved& base, const std::filesystem::path& scratch) {
  const std::vector<gemlet::Token> tokens(session.tokens().begin(), session.tokens().end());
  session.save(scratch);
  const Session again = Session::restore(base.engine, scratch, context);
  fuzz::expect(std::ranges::equal(again.tokens(), tokens), "a saved session has the same tokens");
  fuzz::expect(std::ranges::equal(again.media(), session.media(), &gemlet::Media::same), "and the same media");
  try {
    Session fork = session.fork();
    fork.rewind(fork.position() / 2);
    fork.advance_to(tiny::prompt(7));
    (void)fork.logits();
    session.prefill(tiny::prompt(3));
    gemlet::GenerateOptions options = tiny::lively(3);
    options.speculate = gemlet::Speculate::lookup;
    gemlet::Prompt prompt(session.tokens());
    prompt.media.assign(session.media().begin(), session.media().end());
    gemlet::generate(session, prompt, options);
    session.save(scratch);
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const World world;
  fuzz::Input input(data, size);
  const Saved& base = world.base(input.below(fuzz::bases));
  const bool wrong_checksum = input.flag();
  std::string file = base.file;
  const bool edited = !input.empty();
  while (!input.empty() && !file.empty()) edit(file, input);
  if (!wrong_checksum) fix_checksum(file);
  fuzz::expect(world.file().write(file), "the file in memory can be written");
  std::optional<Session> session;
  try {
    session = Session::restore(base.engine, world.file().path(), context);
  } catch (const Error&) {
    fuzz::expect(edited, "a session that was not edited is restored");
    return 0;
  }
  use(*session, base, world.scratch());
  return 0;
}
