#include "bindings/c_api_values.hpp"

#include <string_view>

#include "bindings/c_api_handles.hpp"
#include "encoders/picture.hpp"

namespace gemlet {
namespace {

gemlet_finish finish_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return GEMLET_FINISH_STOP;
    case FinishReason::length:
      return GEMLET_FINISH_LENGTH;
    case FinishReason::context:
      return GEMLET_FINISH_CONTEXT;
    case FinishReason::cancelled:
      break;
  }
  return GEMLET_FINISH_CANCELLED;
}

Sampling sampling_of(const gemlet_sampling* given) {
  Sampling out;
  if (given == nullptr) return out;
  const gemlet_sampling from = read_struct(given, sampling_kind, default_sampling());
  out.temperature = from.temperature;
  out.top_k = from.top_k;
  out.top_p = from.top_p;
  out.min_p = from.min_p;
  out.repetition_penalty = from.repetition_penalty;
  out.presence_penalty = from.presence_penalty;
  out.frequency_penalty = from.frequency_penalty;
  out.seed = from.seed;
  return out;
}

[[noreturn]] void refuse_enumerator(const char* name, std::int32_t found) {
  throw Error(Error::Kind::argument, std::string(name) + " is " + std::to_string(found) + ", expected 0, 1 or 2");
}

Speculate speculate_of(std::int32_t speculate) {
  switch (speculate) {
    case GEMLET_SPECULATE_NONE:
      return Speculate::none;
    case GEMLET_SPECULATE_LOOKUP:
      return Speculate::lookup;
    case GEMLET_SPECULATE_SLICE:
      return Speculate::slice;
    default:
      refuse_enumerator("speculate", speculate);
  }
}

/// The structs of an array lie struct_size apart, which is another distance in a program with another release's header.
/// Messages call each `noun` and its index, and the array `name`.
template <typename T, typename Read>
void read_array(const T* items, std::size_t count, std::size_t first_size, const std::string& noun, const char* name,
                const Read& read) {
  array(items, count, name);
  const auto* next = reinterpret_cast<const std::byte*>(items);
  for (std::size_t i = 0; i < count; ++i) {
    const std::string numbered = noun + " " + std::to_string(i);
    const auto item = read_struct<T>(next, StructKind{numbered.c_str(), first_size});
    if (item.struct_size != items->struct_size) {
      throw Error(Error::Kind::argument, numbered + ": struct_size is " + std::to_string(item.struct_size) +
                                             ", expected that of the first " + noun + ", " +
                                             std::to_string(items->struct_size));
    }
    try {
      read(item);
    } catch (const Error& error) {
      throw Error(error.kind(), numbered + ": " + error.what());
    }
    next += item.struct_size;
  }
}

std::string text_of(const char* text, std::size_t length) {
  const std::span<const char> bytes = array(text, length, "text");
  return {bytes.begin(), bytes.end()};
}

TurnPart part_of(const gemlet_part& from) {
  TurnPart out{.text = text_of(from.text, from.length)};
  if (from.medium == nullptr) return out;
  if (!out.text.empty()) throw Error(Error::Kind::argument, "has a text and a medium, expected one of them");
  out.medium = from.medium->medium;
  return out;
}

Turn turn_of(const gemlet_turn& from) {
  require(from.role, "role");
  const std::span<const std::int32_t> tokens = array(from.tokens, from.token_count, "tokens");
  Turn out{
      .role = parse_role(from.role), .text = text_of(from.text, from.length), .tokens = {tokens.begin(), tokens.end()}};
  read_array(from.parts, from.part_count, part_kind.first_size, "part", "parts",
             [&](const gemlet_part& part) { out.parts.push_back(part_of(part)); });
  return out;
}

PixelFormat pixel_format_of(std::int32_t format) {
  switch (format) {
    case GEMLET_RGB8:
      return PixelFormat::rgb8;
    case GEMLET_RGBA8:
      return PixelFormat::rgba8;
    case GEMLET_RGBA8_PREMULTIPLIED:
      return PixelFormat::rgba8_premultiplied;
    default:
      refuse_enumerator("format", format);
  }
}

}  // namespace

EngineOptions engine_options_of(const gemlet_engine_options* given) {
  EngineOptions out;
  if (given == nullptr) return out;
  const auto options = read_struct<gemlet_engine_options>(given, engine_options_kind);
  out.threads = options.threads;
  out.context = options.context;
  if (options.chunk != 0) out.chunk = options.chunk;
  if (options.cache != nullptr) out.cache = parse_cache_type(options.cache);
  if (options.slice != nullptr) out.slice = Slice::parse(options.slice);
  return out;
}

gemlet_sampling default_sampling() {
  const Sampling defaults;
  gemlet_sampling out{};
  out.struct_size = sizeof out;
  out.temperature = defaults.temperature;
  out.top_k = defaults.top_k;
  out.top_p = defaults.top_p;
  out.min_p = defaults.min_p;
  out.repetition_penalty = defaults.repetition_penalty;
  out.presence_penalty = defaults.presence_penalty;
  out.frequency_penalty = defaults.frequency_penalty;
  out.seed = defaults.seed;
  return out;
}

PromptEnd prompt_end_of(std::int32_t end) {
  switch (end) {
    case GEMLET_GENERATION_PROMPT:
      return PromptEnd::generation_prompt;
    case GEMLET_COMPLETE:
      return PromptEnd::complete;
    case GEMLET_OPEN_ANSWER:
      return PromptEnd::open_answer;
    default:
      refuse_enumerator("end", end);
  }
}

Picture picture_of(const gemlet_picture& given) {
  Picture out{given.pixels, given.width, given.height, given.stride, pixel_format_of(given.format)};
  if (out.stride == 0) out.stride = bytes_per_pixel(out.format) * out.width;
  return out;
}

std::vector<Turn> turns_of(const gemlet_turn* turns, std::size_t count) {
  std::vector<Turn> out;
  read_array(turns, count, turn_kind.first_size, "turn", "turns",
             [&](const gemlet_turn& turn) { out.push_back(turn_of(turn)); });
  return out;
}

GenerateOptions generate_options_of(const gemlet_request& request) {
  GenerateOptions out;
  if (request.max_tokens != 0) out.max_tokens = request.max_tokens;
  out.sampling = sampling_of(request.sampling);
  out.speculate = speculate_of(request.speculate);
  for (const char* text : array(request.stop, request.stop_count, "stop")) {
    require(text, "a stop string");
    out.stop.emplace_back(text);
  }
  return out;
}

OnText on_text_of(const gemlet_request& request) {
  if (request.on_text == nullptr) return {};
  return [on_text = request.on_text, user = request.user](std::string_view text) {
    return on_text(user, text.data(), text.size()) == 0;
  };
}

gemlet_stats stats_of(const GenerateResult& result) {
  gemlet_stats out{};
  out.finish = finish_of(result.finish_reason);
  out.prompt_tokens = result.stats.prompt_tokens;
  out.reused_tokens = result.stats.reused_tokens;
  out.generated_tokens = result.stats.generated_tokens;
  out.draft_tokens = result.stats.drafted_tokens;
  out.accepted_tokens = result.stats.accepted_tokens;
  out.prefill_seconds = result.stats.prefill_seconds;
  out.decode_seconds = result.stats.decode_seconds;
  out.first_token_seconds = result.stats.first_token_seconds;
  return out;
}

}  // namespace gemlet
