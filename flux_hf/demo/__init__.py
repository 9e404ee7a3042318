"""The page of `flux-hf demo` and of a Hugging Face Space: a video, a budget, what the model says and what it looked at.

`classifier` answers, `accuracy` knows the checkpoint's, `uploads` keeps videos apart, `cards` writes HTML, `page` puts
it together and `serving` serves it. Only the last two need gradio.
"""
