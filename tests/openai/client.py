"""What a program does with the `openai` package; the argument is the server's port."""

import sys

import openai
from openai import OpenAI

client = OpenAI(base_url=f"http://localhost:{sys.argv[1]}/v1", api_key="x")
model = client.models.list().data[0].id
assert model == "nemoterm-mini", model


def complete(prompt):
    answer = client.completions.create(model=model, prompt=prompt, max_tokens=16, temperature=0, stop=["\n"])
    return answer.choices[0].text


text = complete("find . -name")
assert text and "\n" not in text, text

stream = client.completions.create(
    model=model,
    prompt="find . -name",
    max_tokens=16,
    temperature=0,
    stop=["\n"],
    stream=True,
    stream_options={"include_usage": True},
)
chunks = list(stream)
assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == text, chunks
assert chunks[-1].usage.completion_tokens > 0, chunks[-1]

answer = client.completions.create(model=model, prompt=["git ", "ls "], n=3, best_of=4, max_tokens=4, logprobs=2, seed=1)
assert [choice.index for choice in answer.choices] == list(range(6)), answer
for choice in answer.choices:
    assert len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs) > 0, choice
    assert all(len(top) >= 2 for top in choice.logprobs.top_logprobs), choice

for wrong, status in [({"temperature": 9}, 400), ({"prompt": "x " * 5000}, 400), ({"logit_bias": {"1": 999}}, 400)]:
    try:
        client.completions.create(**{"model": model, "prompt": "x", **wrong})
    except openai.APIStatusError as error:
        assert error.status_code == status and error.param == next(iter(wrong)), error
    else:
        raise AssertionError(wrong)

try:
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])
except openai.BadRequestError as error:
    assert "chat template" in error.message, error
else:
    raise AssertionError("a model without a template talks")

print("fine")
