# /// script
# dependencies = ["openai==3.57.0"]
# ///
import openai_python
from openai import AzureOpenAI
from steps import KEY, URL, run

openai_python.client = AzureOpenAI(azure_endpoint=URL, api_key=KEY, api_version="2024-10-21")
run(*openai_python.STEPS)
